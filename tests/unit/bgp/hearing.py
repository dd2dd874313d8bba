"""Peers that listen: what they know after the bytes that they were sent, decoded with the codec."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from routed.model.address import AnyAddress, Family
from routed_bgp import update
from routed_bgp.adj_rib_out import Sending
from routed_bgp.attributes import Attributes
from routed_bgp.dialect import Dialect
from routed_bgp.export import Group
from routed_bgp.nlri import Nlri
from routed_bgp.speaker import Refresh
from routed_bgp.update import Decoder, Update

Table = dict[tuple[Family, Nlri], Attributes]
FAMILIES = frozenset(Family)


@dataclass
class Hearer:
    """One session of a peer. `heard` is what came, in order, a word each."""

    decoder: Decoder
    table: Table = field(default_factory=Table)
    ended: set[Family] = field(default_factory=set[Family])
    heard: list[str] = field(default_factory=list[str])

    @classmethod
    def of(cls, group: Group) -> Hearer:
        """A peer that is told what `group` is told; of both families, whatever it is."""
        return cls(Decoder(Dialect(group.ebgp, group.asn4, FAMILIES, extended_next_hop=True)))

    def hear(self, messages: bytes) -> None:
        for kind, body in update.messages(messages):
            if kind == 5:
                refresh = update.refresh(body)
                assert refresh is not None
                self.heard.append("BoRR" if refresh[1] is Refresh.BEGIN else "EoRR")
            else:
                assert kind == 2
                self._update(self.decoder.decode(body))

    def _update(self, said: Update) -> None:
        assert not said.faults
        assert said.also is None
        if said.end_of_rib is not None:
            self.heard.append("End-of-RIB")
            self.ended.add(said.end_of_rib)
        for nlri in said.withdrawn:
            self.heard.append("withdraw")
            del self.table[said.family, nlri]  # KeyError: it was never told
        if said.attributes is not None:
            self.heard.append("announce")
            self.table.update({(said.family, nlri): said.attributes for nlri in said.announced})


class Room(dict[AnyAddress, Hearer]):
    """All peers whose sessions are up."""

    def hear(self, sendings: Iterable[Sending]) -> None:
        for sending in sendings:
            assert sending.messages
            for peer in sending.peers:
                self[peer].hear(sending.messages)
