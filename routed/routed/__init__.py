"""routed: a BGP routing-mode network stack for containers."""

__version__ = "0.1.0"
