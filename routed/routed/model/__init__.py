"""Values that the parts of routed share. No I/O here."""
