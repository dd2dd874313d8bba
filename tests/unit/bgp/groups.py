"""Export groups and learned paths in a few words."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from typing import Any

from msgspec import structs
from tests.unit.bgp.clusters import bgp_filter

from routed.model.address import Address, Family
from routed.model.path import Origin, Path
from routed_bgp.export import Group
from routed_bgp.filters import Direction, Rules

OURS, OURS6 = Address("10.1.1.11"), ip_address("2001:db8:1::11")
CLUSTER_ID = Address("10.0.0.1")
MEMBERS = Group(asn4=True, ebgp=False, local_as=64512, member=True, next_hops=((Family.IPV4, OURS),))
ROUTERS = replace(MEMBERS, ebgp=True, member=False)
CLIENTS = replace(MEMBERS, cluster_id=CLUSTER_ID, client=True)
NON_CLIENTS = replace(CLIENTS, client=False)
ABROAD = replace(CLIENTS, ebgp=True)
BOTH_FAMILIES = ((Family.IPV4, OURS), (Family.IPV6, OURS6))


def learned(via: str, *, client: bool = False, **more: Any) -> Path:
    """A path of a member, from itself over iBGP."""
    address = ip_address(via)
    router_id = address if isinstance(address, Address) else Address("10.0.0.6")
    made = Path(
        next_hop=address,
        peer=address,
        peer_as=64512,
        peer_router_id=router_id,
        ebgp=False,
        as_path=(),
        origin=Origin.IGP,
        local_pref=90,
        member=True,
        client=client,
    )
    return structs.replace(made, **more)


def rules(
    *written: dict[str, Any], family: Family = Family.IPV4, ebgp: bool = False
) -> tuple[tuple[Family, Rules], ...]:
    """Export rules of one family, as manifests write them."""
    name = "exportV4" if family is Family.IPV4 else "exportV6"
    spec = bgp_filter("f", **{name: list(written)}).spec
    return ((family, Rules.of([spec], Direction.EXPORT, family, ebgp=ebgp)),)
