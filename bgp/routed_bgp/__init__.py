"""BGP: sessions, RIBs, the decision process, and the ExaBGP edge."""
