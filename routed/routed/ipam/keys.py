"""Where IPAM keeps what in the store. Pure.

    blocks/<cidr>           a block, as `block.encode` has it
    holdings/<node>/<cidr>  <node> has addresses of that block, its own or borrowed: where to look after a restart
    static/<cidr>           the block is a podCIDR that is, or was, in use: nothing inside it is to be claimed

Who has claimed a block of a pool stands beside the operator's resources, as a BlockAffinity.
"""

from __future__ import annotations

from ipaddress import ip_network

from routed.model.address import AnyPrefix
from routed.model.codec import resource_key
from routed.model.ipam import affinity_name

PREFIX = "/routed/v1/ipam/blocks/"
STATIC = "/routed/v1/ipam/static/"
_HOLDINGS = "/routed/v1/ipam/holdings/"


def key(cidr: AnyPrefix) -> str:
    """Where the block of `cidr` is kept in the store."""
    return PREFIX + _text(cidr)


def static_key(cidr: AnyPrefix) -> str:
    """What says that `cidr` is a podCIDR in use."""
    return STATIC + _text(cidr)


def holdings(node: str) -> str:
    """The prefix of all that `node` has addresses of."""
    return f"{_HOLDINGS}{node}/"


def holding_key(node: str, cidr: AnyPrefix) -> str:
    """What says that `node` has addresses of `cidr`."""
    return holdings(node) + _text(cidr)


def affinity_key(cidr: AnyPrefix) -> str:
    """Where it stands who has claimed `cidr`."""
    return resource_key("BlockAffinity", affinity_name(cidr))


def cidr_of(found: str) -> AnyPrefix:
    """The block that a key of IPAM is about. Raises ValueError."""
    network, _, length = found.rpartition("/")[2].rpartition("-")
    return ip_network(f"{network}/{length}")


def _text(cidr: AnyPrefix) -> str:
    return str(cidr).replace("/", "-")
