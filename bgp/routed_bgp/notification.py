"""NOTIFICATION in words (RFC 4271 section 4.5, RFC 4486, RFC 8538, RFC 9003), and the error that calls for one."""

from __future__ import annotations

from routed.errors import PeerError

_CEASE, _SHUTDOWN, _RESET, _HARD_RESET = 6, 2, 4, 9
OUT_OF_RESOURCES = _CEASE, 8  # RFC 4486

_CODES = {
    1: "message header error",
    2: "OPEN message error",
    3: "UPDATE message error",
    4: "hold timer expired",
    5: "finite state machine error",
    6: "cease",
    7: "ROUTE-REFRESH message error",
    8: "send hold timer expired",
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
    (2, 11): "role mismatch",
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
    (5, 1): "unexpected message in OpenSent",
    (5, 2): "unexpected message in OpenConfirm",
    (5, 3): "unexpected message in Established",
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
    (7, 1): "invalid message length",
}


class SessionReset(PeerError):  # noqa: N818  RFC 7606's term
    """What a peer sent ends its session (RFC 7606 section 2): `code` and `subcode` are for the NOTIFICATION."""

    def __init__(self, what: str, code: int, subcode: int) -> None:
        super().__init__(f"{what}: {describe(code, subcode)}")
        self.code = code
        self.subcode = subcode


def describe(code: int, subcode: int, data: bytes = b"") -> str:
    """The meaning of a NOTIFICATION, e.g. `cease, administrative shutdown (6/2): "back at noon"`.

    `data` is what follows the codes: the shutdown communication of RFC 9003, or within a hard reset the NOTIFICATION
    that it stands for (RFC 8538 section 3.1). Other data is passed over.
    """
    words = _CODES.get(code, "unknown error")
    detail = _SUBCODES.get((code, subcode))
    text = f"{words}, {detail} ({code}/{subcode})" if detail else f"{words} ({code}/{subcode})"
    if code == _CEASE and subcode in (_SHUTDOWN, _RESET) and (said := _communication(data)):
        return f'{text}: "{said}"'
    if code == _CEASE and subcode == _HARD_RESET and len(data) >= 2 and data[:2] != bytes((_CEASE, _HARD_RESET)):
        return f"{text}: {describe(data[0], data[1], data[2:])}"
    return text


def _communication(data: bytes) -> str:
    """The text of a shutdown communication, RFC 9003 section 2, made harmless for logs and terminals."""
    said = data[1 : 1 + data[0]] if data else b""
    return "".join(
        char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in said.decode(errors="replace")
    )
