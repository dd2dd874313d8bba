"""Through what the kernel reaches an address, without routes of ours: adjacency and recursive next hops. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from routed.model.address import AnyAddress, AnyHostAddress, AnyPrefix, Family
from routed.model.interface import Interface
from routed_felix.prefixes import PrefixMap
from routed_felix.state import Hop, UnderlayRoute


@dataclass(frozen=True, slots=True)
class Resolution:
    """`hop` leads there (no gateway: it is on the link). `subnet` is set if it is inside an interface's own prefix.

    `source` is the address the kernel would put on packets that way, None if it cannot be told from here. `whole`:
    a route of ours by `hop` would lead there too.
    """

    hop: Hop
    subnet: AnyPrefix | None
    source: AnyAddress | None
    whole: bool = True

    @property
    def adjacent(self) -> bool:
        """Directly connected, in the sense of the encapsulation decision."""
        return self.subnet is not None


class Resolver:
    """Answers for one set of interfaces and underlay routes, in one family; remembers its answers.

    Tunnel devices are no underlay: an address that is only reached through one does not resolve, else a tunnel could
    carry its own outer packets.
    """

    def __init__(
        self,
        interfaces: Mapping[str, Interface],
        underlay: Iterable[UnderlayRoute],
        tunnel_devices: Collection[str],
        family: Family = Family.IPV4,
    ) -> None:
        self._family = family
        self._up = {name: i for name, i in interfaces.items() if i.up and name not in tunnel_devices}
        connected: dict[AnyPrefix, str] = {}
        for name, interface in sorted(self._up.items(), reverse=True):  # of two in one subnet the first name wins
            for address in self._own(interface):
                # every IPv6 link has fe80::/64: it says nothing of where an address is
                if not address.is_link_local or family is Family.IPV4:
                    connected[address.network] = name
        self._connected = PrefixMap(connected, family)
        routes: dict[AnyPrefix, UnderlayRoute] = {}
        for route in underlay:
            through_tunnel = any(hop.device in tunnel_devices for hop in route.hops)
            if route.tos or through_tunnel or Family.of(route.prefix) is not family:
                continue
            rival = routes.get(route.prefix)
            if rival is None or _rank(route) < _rank(rival):
                routes[route.prefix] = route
        self._routes = PrefixMap(routes, family)
        self._answers: dict[AnyAddress, Resolution | None] = {}

    def resolve(self, address: AnyAddress) -> Resolution | None:
        """How `address` is reached; None when it is not.

        The longest matching route decides even if its device is down, as it does in the kernel.
        """
        if address not in self._answers:
            self._answers[address] = self._resolve(address)
        return self._answers[address]

    def _resolve(self, address: AnyAddress) -> Resolution | None:
        found = self._connected.longest(address)
        if found is not None:
            subnet, device = found
            return Resolution(Hop(device), subnet, self._source(device, address))
        match = self._routes.longest(address)
        if match is None:
            return None
        _, route = match
        for hop in route.hops:
            if hop.device in self._up:
                source = route.source or self._source(hop.device, hop.gateway or address)
                return Resolution(hop, None, source, route.whole)
        return None

    def _own(self, interface: Interface) -> tuple[AnyHostAddress, ...]:
        return tuple(address for address in interface.addresses if Family.of(address) is self._family)

    def _source(self, device: str, towards: AnyAddress) -> AnyAddress | None:
        """inet_select_addr(): the device's first address in the subnet of the next hop, else its first.

        IPv6 chooses by destination (RFC 6724), which is more than can be told from here; its own choice will do.
        """
        if self._family is Family.IPV6:
            return None
        addresses = self._own(self._up[device])
        for address in addresses:
            if towards in address.network:
                return address.ip
        return addresses[0].ip if addresses else None


def _rank(route: UnderlayRoute) -> tuple[int, int, tuple[tuple[str, int], ...]]:
    """The kernel prefers the lower metric; the rest only makes the choice independent of the order of reading."""
    hops = tuple((hop.device, int(hop.gateway or 0)) for hop in route.hops)
    return route.metric, route.protocol, hops
