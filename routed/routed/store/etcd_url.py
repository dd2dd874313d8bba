"""What an etcd URL says: which members, below which prefix, as whom and with which certificates."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, unquote

from routed.errors import OperatorError

EXPECTED = (
    "expected etcd://[USER@]HOST[:PORT][,HOST[:PORT]...][/PREFIX][?ca=FILE&cert=FILE&key=FILE&password_file=FILE], "
    "e.g. etcd://10.0.0.1:2379,10.0.0.2:2379/routed?ca=/etc/routed/ca.pem"
)
_DEFAULT_PORT = 2379
_OPTIONS = ("ca", "cert", "key", "password_file")
# by hand: urlsplit refuses a list in which one host stands in brackets
_PARTS = re.compile(r"etcd://(?P<authority>[^/?#]*)(?P<path>[^?#]*)(?:\?(?P<query>[^#]*))?")
_HOST = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where one member serves its clients. `host` is a name or an address, an IPv6 one without its brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Tls:
    """Files in PEM form: whom to believe, and what to show where the member asks for it."""

    ca: Path
    cert: Path | None = None
    key: Path | None = None


@dataclass(frozen=True, slots=True)
class EtcdUrl:
    """A cluster of etcd and our place in it. Keys of the store stand below `prefix`, empty or `/...` without an end."""

    endpoints: tuple[Endpoint, ...]
    prefix: str = ""
    user: str | None = None
    password_file: Path | None = None
    tls: Tls | None = None


def parse(url: str) -> EtcdUrl:
    """Read `url`. Raises OperatorError that names what is wrong; a password in it is not repeated."""
    parts = _PARTS.fullmatch(url)
    if parts is None:
        raise _wrong(url.rpartition("@")[2], "is no URL of etcd")
    before, at, hosts = parts["authority"].rpartition("@")
    user, colon, _ = before.partition(":")
    shown = f"etcd://{user + at if at else ''}{hosts}{parts['path']}"
    if colon:
        raise _wrong(shown, "has a password in it", "write it into a file and name that with ?password_file=FILE")
    options = _options(parts["query"] or "", shown)
    if bool(user) != ("password_file" in options):
        raise _wrong(shown, "user and password_file go together: one of them is missing")
    if ("cert" in options) != ("key" in options):
        raise _wrong(shown, "cert and key go together: one of them is missing")
    if "cert" in options and "ca" not in options:
        raise _wrong(shown, "cert is of no use without TLS, which needs ca", "add ca=FILE, the members' authority")
    tls = Tls(options["ca"], options.get("cert"), options.get("key")) if "ca" in options else None
    prefix = unquote(parts["path"]).rstrip("/")
    if "//" in prefix:
        raise _wrong(shown, f"the prefix {prefix!r} has an empty part")
    return EtcdUrl(
        tuple(_endpoint(text, shown) for text in hosts.split(",")),
        prefix,
        unquote(user) or None,
        options.get("password_file"),
        tls,
    )


def _options(query: str, shown: str) -> dict[str, Path]:
    options: dict[str, Path] = {}
    for key, value in parse_qsl(query, keep_blank_values=True):
        if key not in _OPTIONS:
            raise _wrong(shown, f"unknown option {key!r}; known are {', '.join(_OPTIONS)}")
        if key in options:
            raise _wrong(shown, f"{key} is given twice")
        if not Path(value).is_absolute():
            raise _wrong(shown, f"{key}={value}: expected an absolute path")
        options[key] = Path(value)
    return options


def _endpoint(text: str, shown: str) -> Endpoint:
    found = _HOST.fullmatch(text)
    if found is None:
        raise _wrong(shown, f"{text!r} is no HOST:PORT")
    port = int(found["port"] or _DEFAULT_PORT)
    if not 1 <= port <= 65535:
        raise _wrong(shown, f"{text!r}: expected a port from 1 to 65535")
    return Endpoint(found["host"].strip("[]"), port)


def _wrong(shown: str, what: str, hint: str = EXPECTED) -> OperatorError:
    return OperatorError(f"store: {shown}: {what}", hint=hint)
