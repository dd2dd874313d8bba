"""What BGP has to know of the node's interfaces: which next hops lead somewhere, which peers are on a link of it."""

from __future__ import annotations

from collections.abc import Mapping

from routed.model.address import Address, AnyAddress, Family
from routed_felix.decide import reach
from routed_felix.fabric import resolver
from routed_felix.view import View


class Neighbourhood:
    """Answers for the views of both families; alike for those whose `surroundings` are equal."""

    @staticmethod
    def surroundings(views: Mapping[Family, View]) -> tuple[object, ...]:
        """What the answers depend on. Pods' interfaces are no part of it."""
        four = views[Family.IPV4]
        reaches = tuple(reach(view) for view in views.values())
        return (*reaches, *(view.underlay for view in views.values()), four.gateways, four.cluster)

    def __init__(self, views: Mapping[Family, View]) -> None:
        self._resolvers = {family: resolver(view) for family, view in views.items()}
        self._gateways = views[Family.IPV4].gateways

    def resolves(self, address: AnyAddress) -> bool:
        """Whether packets to `address` can leave this node, RFC 4271 section 9.1.2.

        An address of one link alone says nothing of which: it is believed.
        """
        if address.version == 6 and address.is_link_local:
            return True
        towards = self._gateways.get(address, address) if isinstance(address, Address) else address
        return self._resolvers[Family.of(address)].resolve(towards) is not None

    def device(self, address: AnyAddress) -> str | None:
        """The interface that leads to `address`, as far as it is known."""
        found = self._resolvers[Family.of(address)].resolve(address)
        return None if found is None else found.hop.device

    def adjacent(self, address: AnyAddress) -> bool:
        """Whether `address` is on a link of this node."""
        found = self._resolvers[Family.of(address)].resolve(address)
        return found is not None and found.adjacent
