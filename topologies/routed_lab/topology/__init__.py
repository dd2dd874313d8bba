"""A lab as containerlab's format describes it: nodes, links, and the resources that its nodes are configured by.

`load` reads a file and everything it names; what it returns is a value that the runner builds and the checker
judges by.
"""

from routed_lab.topology.load import load
from routed_lab.topology.model import End, LabNode, Link, Pod, Role, Topology

__all__ = ["End", "LabNode", "Link", "Pod", "Role", "Topology", "load"]
