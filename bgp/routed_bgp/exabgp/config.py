"""ExaBGP's configuration and settings as text, from sessions.

Every value in it is a number or an address: no name that an operator chose gets into the file, so none can end a
statement and begin another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from routed.model.address import Address
from routed_bgp.sessions import Session

# The configuration must name a program for the API, and ExaBGP checks that it can be run. It never is: the launcher
# hands over a socket in its place.
_NEVER_RUN = "/proc/self/exe"
PROCESS = "routed"


def configuration(sessions: Iterable[Session]) -> str:
    """The configuration file for `sessions`."""
    return "\n".join([_process(), *(_neighbor(session) for session in sessions)])


def _process() -> str:
    return f"process {PROCESS} {{\n\trun {_NEVER_RUN};\n\tencoder json;\n\trespawn true;\n}}\n"


def _neighbor(session: Session) -> str:
    # adj-rib-in false: the RIB is ours. manual-eor: ExaBGP would send End-of-RIB before we announced anything, and a
    # peer would drop our paths. extended-message off: an UPDATE has at most 4096 octets. graceful-restart 0 would
    # mean "as the hold time".
    restart = f"{int(session.restart_time)}" if session.restart_time else "disable"
    return f"""\
neighbor {Address(session.peer)} {{
	local-address {Address(session.local)};
	router-id {Address(session.router_id)};
	local-as {int(session.local_as)};
	peer-as {int(session.peer_as)};
	connect {int(session.port)};
	passive {_boolean(session.passive)};
	hold-time {int(session.hold_time)};
	adj-rib-in false;
	adj-rib-out true;
	group-updates true;
	manual-eor true;
	family {{
		ipv4 unicast;
	}}
	capability {{
		asn4 enable;
		graceful-restart {restart};
		route-refresh enable;
		extended-message disable;
	}}
	api {{
		processes [ {PROCESS} ];
		neighbor-changes true;
		receive {{
			packets true;
			open true;
			update true;
		}}
	}}
}}
"""


def settings(address: Address, port: int) -> Mapping[str, str]:
    """ExaBGP's settings as environment variables: listen on `address`:`port` only."""
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
        "exabgp.tcp.bind": str(Address(address)),
        "exabgp.tcp.port": str(int(port)),
    }


def _boolean(value: bool) -> str:
    return "true" if value else "false"
