"""From the `store` setting to a store."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from routed.errors import OperatorError
from routed.store import Store

_EXPECTED = "expected sqlite:///ABSOLUTE/PATH, e.g. sqlite:///var/lib/routed/store.db"
_KINDS = f"{_EXPECTED}; or etcd://HOST:PORT,..."


def open_store(url: str, *, create: bool = True) -> Store:
    """The store that `url` names; it is reached by the first call. `create` False: a file has to be there already.

    Raises OperatorError for a URL that names no store.
    """
    if url.startswith("etcd:"):
        from routed.store import etcd_url  # only what is used is loaded

        parsed = etcd_url.parse(url)
        from routed.store.etcd import EtcdStore

        return EtcdStore(parsed)
    parts = urlsplit(url)
    if parts.scheme != "sqlite":
        raise OperatorError(f"store: {url!r}: unknown kind {parts.scheme!r}", hint=_KINDS)
    path = Path(re.sub("^/+", "/", unquote(parts.path)))  # others write four slashes; `//` would be a host to SQLite
    if parts.netloc or parts.query or parts.fragment or not path.is_absolute() or parts.path.endswith("/"):
        raise OperatorError(f"store: {url!r} names no file by its absolute path", hint=_EXPECTED)
    from routed.store.sqlite import SqliteStore

    return SqliteStore(path, create=create)
