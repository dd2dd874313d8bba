"""The node agent: one process that composes store, BGP, dataplane and CNI."""
