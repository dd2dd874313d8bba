"""Which kernel a lab runs on: the machine's own, or a User-mode Linux of its own.

The choice is a pure function of what was asked for, what the topology needs and what the machine has; looking at the
machine is the rest of this module, and changes nothing on it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal, TypeAlias

from routed.errors import EnvironmentFault
from routed_lab.uml import needs, system

Wish: TypeAlias = Literal["auto", "host", "uml"]
Kernel: TypeAlias = Literal["host", "uml"]


@dataclass(frozen=True, slots=True)
class Machine:
    """What matters of the machine: are we root, which of some link kinds has its kernel not, what does uml lack.

    The last two are asked only when the choice depends on them, because the answer costs time.
    """

    root: bool
    without: Callable[[Collection[str]], Collection[str]]
    uml_lacks: Callable[[], Collection[needs.Lack]]


def choose(wish: Wish, kinds: Collection[str], machine: Machine) -> Kernel:
    """Return the kernel for a topology with links of `kinds` (as {"ipip", "veth"}).

    `auto` is the host when we are root and it has all kinds, else uml. EnvironmentFault names what is missing when the
    wish, or neither kernel, can be had.
    """
    if wish != "uml":
        refusal = _host_refusal(kinds, machine)
        if refusal is None:
            return "host"
        if wish == "host":
            raise refusal
        because = f"; the machine's own kernel will not do: {refusal.message}"
    else:
        because = ""
    if lacks := machine.uml_lacks():
        raise EnvironmentFault(
            "User-mode Linux cannot run here: " + "; ".join(lack.what for lack in lacks) + because,
            hint="\n  ".join(dict.fromkeys(lack.remedy for lack in lacks)),
        )
    return "uml"


def _host_refusal(kinds: Collection[str], machine: Machine) -> EnvironmentFault | None:
    if not machine.root:
        return EnvironmentFault(
            "a lab on the host kernel needs root", hint="run it as root (sudo), or use --kernel uml"
        )
    missing = sorted(machine.without(kinds))
    if not missing:
        return None
    some = "drivers" if len(missing) > 1 else "driver"
    return EnvironmentFault(
        f"the host kernel {os.uname().release} lacks the {some} {', '.join(missing)}, which this topology needs",
        hint=f"load it with: modprobe -a {' '.join(missing)}; or use --kernel uml, which has it",
    )


def this_machine() -> Machine:
    """Return the machine this runs on."""
    return Machine(root=os.geteuid() == 0, without=missing_kinds, uml_lacks=needs.lacks)


def missing_kinds(kinds: Collection[str]) -> frozenset[str]:
    """Return those of some link kinds that this kernel cannot make.

    Tries each in a network namespace of its own in a child process, both gone when this returns. For root. Anything but
    "operation not supported" counts as present: the kernel has looked at the attributes, so the driver is there.
    """
    asked = sorted(kinds)
    if not asked:
        return frozenset()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        _answer(asked, writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as answers:
        text = answers.read().decode()
    os.waitpid(child, 0)
    verdicts = text.split()
    if len(verdicts) != len(asked):
        raise EnvironmentFault(
            "cannot try the host kernel's link kinds in a network namespace of their own",
            hint="use --kernel uml, or run as root outside of a container that forbids namespaces",
        )
    return frozenset(kind for kind, verdict in zip(asked, verdicts, strict=True) if int(verdict) == errno.EOPNOTSUPP)


def _answer(kinds: list[str], writer: int) -> None:
    """In the child: write one errno per kind, or nothing; never return."""
    from routed.netlink import message
    from routed.netlink.constants import Flag, Ifla, Msg
    from routed.netlink.socket import Netlink

    try:
        system.unshare(system.CLONE_NEWNET)
        with Netlink() as kernel:
            header = message.IFINFO.pack(0, 0, 0, 0, 0)
            requests = [
                (
                    Msg.NEWLINK,
                    Flag.CREATE | Flag.EXCL,
                    header
                    + message.text(Ifla.IFNAME, f"try{number}")
                    + message.nest(Ifla.LINKINFO, message.text(Ifla.INFO_KIND, kind)),
                )
                for number, kind in enumerate(kinds)
            ]
            failures = kernel.batch(requests)
        os.write(writer, "\n".join(str(failures.get(number, 0)) for number in range(len(kinds))).encode())
    finally:
        os._exit(0)
