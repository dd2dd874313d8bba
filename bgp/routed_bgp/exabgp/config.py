"""ExaBGP's configuration and settings as text, from sessions.

Every value in it is a number, an address or base64: nothing that an operator wrote gets into the file as it is, so
none of it can end a statement and begin another.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from ipaddress import ip_address

from routed.errors import OperatorError
from routed.model.address import Address, AnyAddress, Family
from routed_bgp.sessions import PASSIVE_SECONDS, Session

# The configuration must name a program for the API, and ExaBGP checks that it can be run. It never is: the launcher
# hands over a socket in its place.
_NEVER_RUN = "/proc/self/exe"
PROCESS = "routed"
_MAX_PASSWORD = 80  # octets, the kernel's TCP_MD5SIG_MAXKEYLEN
_FAMILIES = {Family.IPV4: "ipv4 unicast", Family.IPV6: "ipv6 unicast"}


def check(sessions: Iterable[Session]) -> None:
    """Raise OperatorError when ExaBGP could not be told of one of `sessions`."""
    seen: set[AnyAddress] = set()
    for session in sessions:
        if session.peer in seen:
            raise OperatorError(f"{session.name}: {session.peer} has another session already", hint="remove one")
        seen.add(session.peer)
        if Family.of(session.peer) is not Family.of(session.local):
            raise OperatorError(
                f"{session.name}: the peer {session.peer} and our address {session.local} are of two families",
                hint="give this node an address of the peer's family, or set sourceAddress",
            )
        if session.password is not None and not 1 <= len(session.password.encode()) <= _MAX_PASSWORD:
            raise OperatorError(
                f"{session.name}: the password must have 1 to {_MAX_PASSWORD} octets (RFC 2385)",
                hint="choose another password, at both ends",
            )
        if session.ttl_security is not None and not 1 <= session.ttl_security <= 255:
            raise OperatorError(
                f"{session.name}: ttlSecurity is {session.ttl_security}, expected 1 to 255 hops", hint="see RFC 5082"
            )


def configuration(sessions: Iterable[Session]) -> str:
    """The configuration file for `sessions`. It may hold passwords: keep it from others' eyes."""
    return "\n".join([_process(), *(_neighbor(session) for session in sessions)])


def _process() -> str:
    return f"process {PROCESS} {{\n\trun {_NEVER_RUN};\n\tencoder json;\n\trespawn true;\n}}\n"


def _neighbor(session: Session) -> str:
    # adj-rib-in false: the RIB is ours. manual-eor: ExaBGP would send End-of-RIB before we announced anything, and a
    # peer would drop our paths. extended-message off: an UPDATE has at most 4096 octets. graceful-restart 0 would
    # mean "as the hold time". host-name: ExaBGP would ask the DNS. The description is for `sessions` in the launcher.
    restart = f"{int(session.restart_time)}" if session.restart_time else "disable"
    families = [_FAMILIES[Family(family)] for family in session.families]
    next_hops = ["ipv4 unicast ipv6"] if session.extended_next_hop and set(Family) <= set(session.families) else []
    add_path = families if session.add_path else []
    return f"""\
neighbor {ip_address(session.peer)} {{
	description "{_extras(session)}";
	local-address {ip_address(session.local)};
	router-id {Address(session.router_id)};
	local-as {int(session.local_as)};
	peer-as {int(session.peer_as)};
	connect {int(session.port)};
	listen {int(session.listen_port)};
	passive {_boolean(session.passive)};
	hold-time {int(session.hold_time)};
{_security(session)}	adj-rib-in false;
	adj-rib-out true;
	group-updates true;
	manual-eor true;
{_block("family", families)}{_block("nexthop", next_hops)}{_block("add-path", add_path)}	capability {{
		asn4 enable;
		graceful-restart {restart};
		route-refresh enable;
		extended-message disable;
		nexthop {"enable" if next_hops else "disable"};
		add-path {"receive" if session.add_path else "disable"};
	}}
	api {{
		processes [ {PROCESS} ];
		neighbor-changes true;
		receive {{
			packets true;
			open true;
			update true;
			refresh true;
		}}
	}}
}}
"""


def _security(session: Session) -> str:
    lines: list[str] = []
    if session.password is not None:
        secret = base64.b64encode(session.password.encode()).decode()
        lines += [f"\tmd5-password {secret};\n", "\tmd5-base64 true;\n"]
    if session.ttl_security is not None:
        lines += [f"\tincoming-ttl {256 - int(session.ttl_security)};\n", "\toutgoing-ttl 255;\n"]
    return "".join(lines)


def _block(name: str, lines: list[str]) -> str:
    return f"\t{name} {{\n" + "".join(f"\t\t{line};\n" for line in lines) + "\t}\n" if lines else ""


def _extras(session: Session) -> str:
    """What ExaBGP's configuration has no words for, as the launcher reads it."""
    keepalive = 0 if session.keepalive_time is None else int(session.keepalive_time)
    return f"keepalive {keepalive} notification {int(bool(session.notification_restart))} patience {PASSIVE_SECONDS}"


def settings(*, stock: bool) -> Mapping[str, str]:
    """ExaBGP's settings as environment variables."""
    return {
        "exabgp.api.ack": "true",
        "exabgp.api.cli": "false",
        "exabgp.api.respawn": "false",  # the socket that takes the helper's place cannot be made again
        "exabgp.api.terminate": "true",
        "exabgp.daemon.daemonize": "false",
        "exabgp.daemon.drop": "false",
        "exabgp.daemon.user": "root",
        "exabgp.log.destination": "stdout",
        "exabgp.log.level": "WARNING",
        "exabgp.log.short": "true",
        # rounds last up to a hundredth of this, in seconds; with the seams every socket ends the wait
        "exabgp.reactor.speed": "1" if stock else "10",
    }


def _boolean(value: bool) -> str:
    return "true" if value else "false"
