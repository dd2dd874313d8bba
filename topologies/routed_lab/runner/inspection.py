"""What `routed lab inspect` tells of a lab that is up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from routed.errors import RoutedError
from routed_lab.runner import links
from routed_lab.topology import HOST, Role

if TYPE_CHECKING:
    from routed_lab.runner.lab import Lab
    from routed_lab.topology import LabNode
    from routed_lab.wire import Json


async def inspect(lab: Lab) -> dict[str, Json]:
    """The nodes with their processes, addresses, pods and sessions, and the links, as JSON."""
    return {
        "name": lab.topology.name,
        "file": str(lab.topology.path),
        "nodes": {node.name: await _node(lab, node) for node in lab.topology.nodes.values()},
        "links": [f"{link.left} - {link.right}" for link in lab.topology.links],
    }


async def _node(lab: Lab, node: LabNode) -> dict[str, Json]:
    daemon = lab.routers.get(node.name) or lab.agents.get(node.name)
    child = next(iter(daemon.children), None) if daemon is not None else None
    namespace = lab.namespace_of(node.name)
    holder = lab.topology.holder(node.name)
    held: dict[str, Json] = {}
    for interface, addresses in links.addresses(namespace).items():
        held[interface] = [*addresses]
    told: dict[str, Json] = {
        "role": str(node.role),
        "rack": node.rack,
        "image": node.image,
        "namespace": holder if holder == HOST else lab.topology.namespace(holder),
        "pid": child.pid if child is not None and child.alive else None,
        "addresses": held,
    }
    if node.role is Role.NODE:
        told["pods"] = [
            {"name": pod.name, "namespace": wired.namespace.name, "address": str(wired.address)}
            for pod, wired in lab.pods.items()
            if pod.node == node.name
        ]
    elif node.role is Role.ROUTER:
        told["router"] = str(node.router)
        told["sessions"] = await _sessions(lab, node.name)
    return told


async def _sessions(lab: Lab, router: str) -> Json:
    try:
        sessions = await lab.routers[router].sessions()
    except RoutedError:  # the router is down, which its pid says
        return []
    return [
        {"protocol": session.protocol, "neighbor": str(session.neighbor), "state": session.state}
        for session in sessions
    ]
