"""The lab: containerlab topologies on a real kernel."""
