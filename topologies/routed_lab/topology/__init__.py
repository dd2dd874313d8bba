"""A lab as containerlab's format describes it: nodes, links, and the resources that its nodes are configured by.

`load` reads a file and everything it names; what it returns is a value that the runner builds and the checker
judges by.
"""

from routed_lab.topology.load import load
from routed_lab.topology.model import (
    HOST,
    MANAGEMENT,
    Bind,
    Dummy,
    End,
    Kind,
    LabNode,
    Link,
    Management,
    Pod,
    Role,
    Stage,
    StageCommand,
    Step,
    Topology,
)
from routed_lab.topology.routers import RouterKind

__all__ = [
    "HOST",
    "MANAGEMENT",
    "Bind",
    "Dummy",
    "End",
    "Kind",
    "LabNode",
    "Link",
    "Management",
    "Pod",
    "Role",
    "RouterKind",
    "Stage",
    "StageCommand",
    "Step",
    "Topology",
    "load",
]
