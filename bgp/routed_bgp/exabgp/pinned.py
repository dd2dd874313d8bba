"""Is the ExaBGP that is installed the one that we were written against? Asked of the source of each piece we touch."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterable
from functools import reduce
from importlib import import_module
from typing import Any

from routed_bgp.exabgp.digests import DIGESTS

EXABGP_VERSION = "5.0.15"


class UnexpectedExaBGP(Exception):  # noqa: N818  a statement, shown as such
    """ExaBGP is not the one that was expected."""


def module(name: str) -> Any:
    """A module of ExaBGP, whose parts have no types to check."""
    return import_module(f"exabgp.{name}")


def digest(piece: str) -> str:
    """The digest of the source of `piece`, "module:name.name". Raises UnexpectedExaBGP where there is none."""
    name, _, path = piece.partition(":")
    try:
        found = reduce(getattr, path.split("."), module(name))
        return hashlib.sha256(inspect.getsource(found).encode()).hexdigest()
    except (ImportError, AttributeError, TypeError, OSError) as error:
        raise UnexpectedExaBGP(f"{path} of exabgp.{name} is missing ({error})") from None


def require_version() -> None:
    """Raise UnexpectedExaBGP for any other version."""
    release = module("version").release
    if release != EXABGP_VERSION:
        raise UnexpectedExaBGP(f"it is version {release}, expected {EXABGP_VERSION}")


def require(pieces: Iterable[str]) -> None:
    """Raise UnexpectedExaBGP unless each of `pieces` is, letter by letter, what it was; ask before replacing any."""
    for piece in pieces:
        if digest(piece) != DIGESTS.get(piece):
            raise UnexpectedExaBGP(f"{piece.partition(':')[2]} is not as in version {EXABGP_VERSION}")
