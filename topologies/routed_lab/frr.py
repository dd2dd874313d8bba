"""What FRR's files and its vtysh say: which daemons run, which BGP sessions there are. Pure.

`/etc/frr/daemons` is a file of shell assignments (https://docs.frrouting.org/en/stable-8.4/setup.html).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

import msgspec

from routed.errors import OperatorError
from routed_lab.session import Session

KNOWN: Final = (
    "zebra", "staticd", "bgpd", "ospfd", "ospf6d", "ripd", "ripngd", "isisd", "pimd", "pim6d", "ldpd", "nhrpd",
    "eigrpd", "babeld", "pbrd", "bfdd", "fabricd", "vrrpd", "pathd",
)  # fmt: skip
"""The daemons a `daemons` file may ask for, zebra first: the others look for its socket."""

_ALWAYS: Final = ("zebra", "staticd")  # whatever the file says, as in FRR's own start script
_ASSIGNMENT: Final = re.compile(r"\s*([A-Za-z_]\w*)=(.*)")
_BACKGROUND: Final = ("-d", "--daemon")  # we hold the daemons ourselves
# what makes us start a daemon where no `daemons` file was given: a line of the configuration that only it understands
_WORDS: Final = {
    "staticd": re.compile(r"^ip(v6)? route ", re.MULTILINE),
    "bgpd": re.compile(r"^router bgp", re.MULTILINE),
    "ospfd": re.compile(r"^router ospf\b", re.MULTILINE),
    "ospf6d": re.compile(r"^router ospf6\b", re.MULTILINE),
    "bfdd": re.compile(r"^bfd$|^ neighbor \S+ bfd\b", re.MULTILINE),
}


@dataclass(frozen=True, slots=True)
class FrrDaemon:
    """A daemon to start, and the options it gets."""

    name: str
    options: tuple[str, ...] = ()


def asked_for(daemons: str, where: str) -> tuple[FrrDaemon, ...]:
    """The daemons that the text of a `daemons` file asks for; OperatorError says where (`where`) it is malformed."""
    values: dict[str, str] = {}
    for number, line in enumerate(daemons.splitlines(), 1):
        found = _ASSIGNMENT.match(line)
        if found is None:
            continue
        try:
            values[found[1]] = " ".join(shlex.split(found[2], comments=True))
        except ValueError as error:
            raise OperatorError(f"{where}:{number}: {found[1]} is no value of a shell: {error}") from error
    profile = ("-F", values["frr_profile"]) if values.get("frr_profile") else ()
    return tuple(
        FrrDaemon(name, (*profile, *_options(values.get(f"{name}_options", ""))))
        for name in KNOWN
        if name in _ALWAYS or values.get(name) == "yes"
    )


def needed_by(configuration: str) -> tuple[FrrDaemon, ...]:
    """The daemons that the text of an frr.conf needs, for a router that has no `daemons` file."""
    return tuple(
        FrrDaemon(name, ("-A", "127.0.0.1"))
        for name in KNOWN
        if name == "zebra" or (name in _WORDS and _WORDS[name].search(configuration))
    )


class _Neighbor(msgspec.Struct, rename="camel"):
    bgp_state: str | None = None
    bgp_neighbor_addr: str | None = None
    nbr_desc: str | None = None


def sessions(output: str) -> Iterator[Session]:
    """The sessions in the answer to `show bgp neighbors json`, none if it is no such answer."""
    try:
        neighbors = msgspec.json.decode(output, type=dict[str, _Neighbor | bool])
    except msgspec.MsgspecError:
        return
    for name, told in neighbors.items():
        if isinstance(told, bool) or told.bgp_state is None:
            continue
        try:
            neighbor = ip_address(told.bgp_neighbor_addr or name)
        except ValueError:  # an unnumbered one whose neighbour has not been heard of yet
            continue
        yield Session(told.nbr_desc or name, neighbor, told.bgp_state)


def _options(text: str) -> tuple[str, ...]:
    return tuple(word for word in text.split() if word not in _BACKGROUND)
