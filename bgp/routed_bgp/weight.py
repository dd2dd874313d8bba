"""How much memory attributes take, so that what remembers them is bounded whatever a peer sends."""

from __future__ import annotations

from routed.model.path import Path
from routed_bgp.attributes import Attributes

_FEW = 13  # numbers: two times so many are less than 1000 octets


def weight(of: Attributes | Path) -> int:
    """In sets of attributes of ordinary size, some 1000 octets; a message full of communities makes one of 37."""
    path = of.as_path
    if (
        len(of.communities) < _FEW
        and not (of.unknown or of.large_communities or of.cluster_list)
        and (not path or (len(path) == 1 and len(path[0].numbers) < _FEW))
    ):
        return 1  # most of them, and each new one is weighed
    numbers = len(of.communities) + sum(len(segment.numbers) for segment in of.as_path)
    octets = 36 * numbers + 200 * len(of.large_communities) + 96 * len(of.cluster_list)
    return 1 + (octets + sum(100 + len(unknown.value) for unknown in of.unknown)) // 1000
