"""Where calc's paths come from: BGP, or the store alone while BGP is switched off (flannel's host-gw mode).

With the mesh disabled and no BGPPeer the store still says which node has which block and at which address, and that is
what the mesh would have told. So forwarding needs no BGP where no router has to learn anything. When BGP is switched on
again the store's paths stay until it has delivered its tables: nothing is lost on the way, either way. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping

from routed.model.address import Family
from routed.model.cluster import Cluster
from routed.model.nlri import Nlri, from_prefix
from routed.model.path import Origin, Path
from routed_bgp.loc_rib import Ranked
from routed_bgp.policy import MEMBER_LOCAL_PREF


def is_switched_off(cluster: Cluster) -> bool:
    """Whether no node of `cluster` has any session."""
    return not cluster.bgp.node_to_node_mesh_enabled and not cluster.peers


def stored_paths(cluster: Cluster, node: str, family: Family) -> dict[Nlri, Ranked]:
    """The paths of `family` to the blocks of all other nodes than `node`, as these would tell them over the mesh."""
    found: dict[Nlri, Ranked] = {}
    by_owner: dict[str, Ranked] = {}
    for block, owner in cluster.blocks_of(family).items():
        stated = cluster.any_address(owner, family)
        if owner == node or stated is None:
            continue
        if owner not in by_owner:
            asn = cluster.as_number(owner)
            by_owner[owner] = (
                Path(
                    next_hop=stated.ip,
                    peer=stated.ip,
                    peer_as=asn,
                    peer_router_id=cluster.address(owner).ip,
                    ebgp=False,
                    as_path=(),
                    origin=Origin.IGP,
                    local_pref=MEMBER_LOCAL_PREF,
                    member=True,
                ),
            )
        found[from_prefix(block)] = by_owner[owner]
    return found


class PathSource:
    """See the module. `rib` has the Loc-RIBs, live; `patience`: seconds that BGP gets to deliver its tables."""

    def __init__(self, node: str, rib: Mapping[Family, Mapping[Nlri, Ranked]], patience: float) -> None:
        self._node = node
        self._rib = rib
        self._patience = patience
        self._stored: dict[Family, dict[Nlri, Ranked]] = {}
        self._until: float | None = None  # the store's paths stay so long, since BGP is on again
        self._changed = False

    def adopt(self, cluster: Cluster, now: float) -> None:
        """Work by `cluster` from now on."""
        off = is_switched_off(cluster)
        if not off and not self._stored:
            return
        if off:
            self._until = None
        elif self._until is None:
            self._until = now + self._patience
        stored = {family: stored_paths(cluster, self._node, family) for family in Family}
        self._changed |= stored != self._stored
        self._stored = stored

    def settle(self, now: float, *, synced: bool) -> bool:
        """Leave the store's paths once BGP has delivered; whether other prefixes may have changed than BGP names."""
        if self._until is not None and (synced or now >= self._until):
            self._stored, self._until, self._changed = {}, None, True
        changed, self._changed = self._changed, False
        return changed

    @property
    def next_deadline(self) -> float | None:
        """When `settle` has something to do next."""
        return self._until

    def best(self, family: Family) -> Mapping[Nlri, Ranked]:
        """The paths of each prefix of `family`, best first; BGP's, if it has any."""
        stored, learned = self._stored.get(family), self._rib[family]
        return {**stored, **learned} if stored else learned

    def is_stored(self, nlri: Nlri, family: Family) -> bool:
        """Whether the paths to `nlri` are the store's."""
        return nlri in self._stored.get(family, {}) and nlri not in self._rib[family]
