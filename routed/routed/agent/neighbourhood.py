"""What BGP has to know of the node's interfaces: which next hops lead somewhere, which peers are on a link of it."""

from __future__ import annotations

from routed.model.address import Address, AnyAddress, Family
from routed_felix.fabric import resolver
from routed_felix.view import View


class Neighbourhood:
    """Answers for one view. The route programmer knows IPv4 only yet: every IPv6 address is believed to be reached."""

    def __init__(self, view: View) -> None:
        self._resolver = resolver(view)
        self._gateways = view.gateways
        own = view.cluster.any_address(view.node, Family.IPV6) if view.node in view.cluster.nodes else None
        self._subnet6 = own.network if own is not None else None

    def resolves(self, address: AnyAddress) -> bool:
        """Whether packets to `address` can leave this node, RFC 4271 section 9.1.2."""
        if not isinstance(address, Address):
            return True
        return self._resolver.resolve(self._gateways.get(address, address)) is not None

    def device(self, address: AnyAddress) -> str | None:
        """The interface that leads to `address`, as far as it is known."""
        found = self._resolver.resolve(address) if isinstance(address, Address) else None
        return None if found is None else found.hop.device

    def adjacent(self, address: AnyAddress) -> bool:
        """Whether `address` is on a link of this node."""
        if isinstance(address, Address):
            found = self._resolver.resolve(address)
            return found is not None and found.adjacent
        return self._subnet6 is not None and address in self._subnet6
