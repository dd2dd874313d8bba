"""NOTIFICATION codes in words: RFC 4271 section 4.5, RFC 4486, RFC 8203, RFC 8538."""

from __future__ import annotations

_CODES = {
    1: "message header error",
    2: "OPEN message error",
    3: "UPDATE message error",
    4: "hold timer expired",
    5: "finite state machine error",
    6: "cease",
    7: "ROUTE-REFRESH message error",
}
_SUBCODES = {
    (1, 1): "connection not synchronised",
    (1, 2): "bad message length",
    (1, 3): "bad message type",
    (2, 1): "unsupported version number",
    (2, 2): "bad peer AS",
    (2, 3): "bad BGP identifier",
    (2, 4): "unsupported optional parameter",
    (2, 6): "unacceptable hold time",
    (2, 7): "unsupported capability",
    (3, 1): "malformed attribute list",
    (3, 2): "unrecognised well-known attribute",
    (3, 3): "missing well-known attribute",
    (3, 4): "attribute flags error",
    (3, 5): "attribute length error",
    (3, 6): "invalid ORIGIN",
    (3, 8): "invalid NEXT_HOP",
    (3, 9): "optional attribute error",
    (3, 10): "invalid network field",
    (3, 11): "malformed AS_PATH",
    (6, 1): "maximum number of prefixes reached",
    (6, 2): "administrative shutdown",
    (6, 3): "peer de-configured",
    (6, 4): "administrative reset",
    (6, 5): "connection rejected",
    (6, 6): "other configuration change",
    (6, 7): "connection collision resolution",
    (6, 8): "out of resources",
    (6, 9): "hard reset",
    (6, 10): "BFD down",
}


def describe(code: int, subcode: int) -> str:
    """The meaning of a NOTIFICATION, e.g. `cease, administrative shutdown (6/2)`."""
    words = _CODES.get(code, "unknown error")
    detail = _SUBCODES.get((code, subcode))
    return f"{words}, {detail} ({code}/{subcode})" if detail else f"{words} ({code}/{subcode})"
