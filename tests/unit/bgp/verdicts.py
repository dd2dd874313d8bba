"""What a peer's UPDATE is judged to be, in the terms of RFC 7606 section 2."""

from __future__ import annotations

import pytest
from tests.unit.bgp.wire import NEXT_HOP, ORIGIN, as_path, body, key

from routed.model.address import Family
from routed_bgp.attributes import Attributes
from routed_bgp.dialect import Dialect
from routed_bgp.notification import SessionReset
from routed_bgp.update import Decoder, Update

P = "10.244.1.0/26"
P6 = "2001:db8:1::/64"
MANDATORY = ORIGIN + as_path(65001) + NEXT_HOP
BOTH = frozenset(Family)


def read(data: bytes, *, asn4: bool = True, ebgp: bool = True) -> Update:
    return Decoder(Dialect(ebgp, asn4, BOTH)).decode(data)


def attributes_of(data: bytes, *, asn4: bool = True, ebgp: bool = True) -> Attributes:
    found = read(data, asn4=asn4, ebgp=ebgp).attributes
    assert found is not None
    return found


def with_extra(extra: bytes, *, ebgp: bool = True) -> Update:
    return read(body(P, attributes=MANDATORY + extra), ebgp=ebgp)


def is_withdrawn(update: Update, *words: str) -> bool:
    return (
        update.withdrawn == [key(P)]
        and not update.announced
        and update.attributes is None
        and all(word in update.faults[-1] for word in words)
    )


def is_discarded(update: Update, word: str) -> bool:
    return update.announced == [key(P)] and any(word in fault for fault in update.faults)


def resets(data: bytes, code: int, subcode: int, words: str = "malformed", *, ebgp: bool = True) -> None:
    with pytest.raises(SessionReset, match=words) as caught:
        read(data, ebgp=ebgp)
    assert (caught.value.code, caught.value.subcode) == (code, subcode)
