"""ExaBGP as the speaker: configuration, launcher, events, supervision. Nothing outside knows its formats."""
