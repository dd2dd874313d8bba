"""Which pod interfaces this node has: what IPAM's blocks say, and the links' aliases where they know nothing.

There is no other record, so that an agent that restarts knows the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from routed.ipam.allocator import Allocator
from routed.ipam.block import Allocation
from routed.model.address import AnyAddress
from routed.model.endpoint import Endpoint
from routed_cni.veths import Veth, host_interface

_CONTAINER, _INTERFACE, _NETWORK = "containerID", "interface", "network"
# CNI_ARGS of Kubernetes' runtimes, by the attribute that keeps them
_POD_ARGUMENTS = {"namespace": "K8S_POD_NAMESPACE", "pod": "K8S_POD_NAME", "podUID": "K8S_POD_UID"}


@dataclass(frozen=True, slots=True)
class Place:
    """A pod interface, by what names it."""

    container_id: str
    interface: str

    @property
    def handle(self) -> str:
        """IPAM's name of it. Both parts may hold dots, but only the ID keeps them: no two have one handle."""
        return f"cni.{self.container_id}.{self.interface.replace('.', '/')}"

    @property
    def name(self) -> str:
        """The node's end of its link."""
        return host_interface(self.container_id, self.interface)


def attributes(place: Place, network: str, arguments: Mapping[str, str]) -> dict[str, str]:
    """What an allocation keeps of a pod interface."""
    kept = {_CONTAINER: place.container_id, _INTERFACE: place.interface, _NETWORK: network}
    for name, argument in _POD_ARGUMENTS.items():
        if value := arguments.get(argument):
            kept[name] = value
    return kept


class Record:
    """The pod interfaces of a node.

    What it tells is made anew only when something changed: the agent asks with every round.
    """

    def __init__(self, allocator: Allocator) -> None:
        self._allocator = allocator
        self._given: dict[Place, Veth] = {}
        self._leaving: dict[str, Place] = {}
        self._endpoints: Mapping[AnyAddress, Endpoint] = {}
        self._made_of: Mapping[AnyAddress, Allocation] | None = None
        self._seen: dict[int, tuple[Allocation, Endpoint]] = {}  # by the allocation's identity: hashing costs more
        self._holding: set[Place] = set()

    def endpoints(self) -> Mapping[AnyAddress, Endpoint]:
        """All that are not leaving, by address. Those that stay are the same objects: many compare them."""
        allocations = self._allocator.allocations()
        if self._made_of is not allocations:
            self._endpoints = {
                each.address: each for each in self._all_endpoints() if each.host_interface not in self._leaving
            }
            self._made_of = allocations
        return self._endpoints

    def _all_endpoints(self) -> Iterator[Endpoint]:
        seen: dict[int, tuple[Allocation, Endpoint]] = {}
        for address, held in self._allocator.allocations().items():
            known = self._seen.get(id(held))
            if known is None or known[0] is not held:
                place = _place(held)
                if place is None:
                    continue
                known = held, Endpoint(place.container_id, place.interface, address, place.name)
            seen[id(held)] = known
            yield known[1]
        self._seen = seen
        for place, veth in self._given.items():
            yield from (Endpoint(place.container_id, place.interface, each, place.name) for each in veth.addresses)

    def holds(self, place: Place) -> bool:
        """Whether the interface has been given anything, as far as was `taken` note of. Costs the same for many pods,
        where `addresses` has to look through them after each change.
        """
        return place in self._holding

    def taken(self, *places: Place) -> None:
        """Note that these hold addresses."""
        self._holding.update(places)

    def places(self) -> dict[str, Place]:
        """All, by the node's end of the link."""
        return {place.name: place for place, _, _ in self._all()}

    def of_network(self, network: str) -> set[Place]:
        """All that were added to `network`."""
        return {place for place, _, its in self._all() if its == network}

    def addresses(self, place: Place) -> tuple[AnyAddress, ...]:
        """What the interface holds, IPv4 first."""
        held = self._allocator.held_by(place.handle)
        held += self._given[place].addresses if place in self._given else ()
        return tuple(sorted(held, key=lambda address: address.version))

    def leave(self, *places: Place) -> None:
        """Note that these are given up, and hold addresses still."""
        self._leaving.update({place.name: place for place in places})
        self._made_of = None

    def leaving(self, name: str) -> Place | None:
        """The one that is given up and whose link is `name`, if there is one."""
        return self._leaving.get(name)

    def stay(self, place: Place) -> None:
        """Note that it is not given up, or not any more."""
        if self._leaving.pop(place.name, None) is not None:
            self._made_of = None

    def give(self, place: Place, veth: Veth) -> None:
        """Note what an IPAM plugin gave."""
        self._given[place] = veth
        self._made_of = None

    def forget(self, place: Place) -> None:
        """Note that it holds nothing any more."""
        self._holding.discard(place)
        self._given.pop(place, None)
        self._made_of = None

    def _all(self) -> Iterator[tuple[Place, AnyAddress, str]]:
        for address, held in self._allocator.allocations().items():
            if place := _place(held):
                yield place, address, held.attributes.get(_NETWORK, "")
        for place, veth in self._given.items():
            for address in veth.addresses:
                yield place, address, veth.network


def _place(held: Allocation) -> Place | None:
    """Whose an allocation is; None if it is no pod's."""
    container, interface = held.attributes.get(_CONTAINER), held.attributes.get(_INTERFACE)
    return Place(container, interface) if container and interface else None
