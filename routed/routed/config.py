"""The agent's configuration, declared once: type, default, bounds, unit and help of every key stand in `AgentConfig`.

Sources, the later wins: default, TOML file, environment (`ROUTED_` and the key in capitals). The reference page is
generated from the declaration: `python -m routed.config > docs/reference/configuration.md`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from routed.errors import OperatorError
from routed.model.resources import Name

DEFAULT_PATH = Path("/etc/routed/agent.toml")
_PREFIX = "ROUTED_"
_REFERENCE = "docs/reference/configuration.md"

Port = Annotated[int, Meta(ge=1, le=65535)]


def _host_name() -> str:
    return os.uname().nodename.lower()


class AgentConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What the agent of one node needs to know before it can read the store."""

    node: Annotated[Name, Meta(description="Name of this node's Node resource.")] = msgspec.field(
        default_factory=_host_name
    )
    store: Annotated[
        str,
        Meta(
            description="URL of the store: sqlite:///ABSOLUTE/PATH, one file for all agents of a machine, or "
            "etcd://[USER@]HOST:PORT[,HOST:PORT...][/PREFIX], for many machines, with `?` and `&` before each of "
            "ca=FILE (TLS), cert=FILE, key=FILE and password_file=FILE as needed."
        ),
    ] = "sqlite:///var/lib/routed/store.db"
    run_dir: Annotated[
        Path, Meta(description="Directory of the agent's lock and of the socket that the CNI plugin calls.")
    ] = Path("/run/routed")
    state_dir: Annotated[
        Path,
        Meta(
            description="Directory of what has to outlast the agent and the machine: the journal of addresses that are "
            "given and taken back while the store is away, a file NODE.journal."
        ),
    ] = Path("/var/lib/routed")
    secrets_dir: Annotated[
        Path, Meta(description="Directory of passwords, each a file NAME/KEY as a resource's `secretKeyRef` names it.")
    ] = Path("/etc/routed/secrets")
    health_port: Annotated[Port, Meta(description="TCP port on 127.0.0.1 of /liveness, /readiness and /status.")] = 9099
    metrics_port: Annotated[Port, Meta(description="TCP port on 127.0.0.1 of /metrics.")] = 9091
    route_protocol: Annotated[
        int,
        Meta(
            ge=5,  # 0 to 4 are the kernel's own, include/uapi/linux/rtnetlink.h
            le=255,
            description="Routing protocol number that marks the routes of ours in the kernel; no one else may use it.",
        ),
    ] = 114
    route_metric: Annotated[
        int, Meta(ge=1, le=4294967295, description="Metric of our routes; lower ones of others win over them.")
    ] = 1024
    tunnel_device: Annotated[
        str, Meta(pattern=r"^[^\s/:]{1,15}\Z", description="IPIP device, at most 15 characters.")
    ] = "tunl0"
    vxlan_device: Annotated[
        str,
        Meta(
            pattern=r"^[^\s/:]{1,15}\Z",
            description="VXLAN device, at most 15 characters; ours alone, made and deleted as pools need it.",
        ),
    ] = "vxlan.routed"
    vxlan_vni: Annotated[
        int,
        Meta(ge=1, le=16777215, description="VXLAN network identifier (RFC 7348); the same on all nodes."),
    ] = 4096
    vxlan_port: Annotated[Port, Meta(description="UDP port of VXLAN; the same on all nodes.")] = 4789
    nexthop_groups: Annotated[
        bool,
        Meta(
            description="Whether learned routes go by nexthop groups, where the kernel has them (Linux 5.3): all "
            "routes of a group change over in one operation. For that net.ipv4.nexthop_compat_mode is set to 0, and "
            "`ip route` shows an id, `ip nexthop` the rest; false is for programs that read routes and know no nexthop."
        ),
    ] = True
    bgp_sync_seconds: Annotated[
        int,
        Meta(
            ge=0,
            le=3600,
            extra={"unit": "seconds"},
            description="How long a start waits at most for the peers' End-of-RIB before it changes routes.",
        ),
    ] = 30
    bgp_restart_seconds: Annotated[
        int,
        Meta(
            ge=1,
            le=4095,  # 12 bits, RFC 4724 section 3
            extra={"unit": "seconds"},
            description="Restart time of graceful restart: how long peers keep our routes while we are away.",
        ),
    ] = 120
    bgp_hold_seconds: Annotated[
        int,
        Meta(
            ge=3,  # RFC 4271 section 4.2
            le=65535,
            extra={"unit": "seconds"},
            description="Hold time: a session without a message for so long is down.",
        ),
    ] = 90
    bgp_member_local_pref: Annotated[
        int,
        Meta(
            ge=1,
            le=4294967295,
            description="LOCAL_PREF of a path that another member originated: through the mesh or a reflector.",
        ),
    ] = 90
    bgp_fabric_local_pref: Annotated[
        int, Meta(ge=1, le=4294967295, description="LOCAL_PREF of a path that a router of the fabric originated.")
    ] = 100
    bgp_stale_paths_yield: Annotated[
        bool,
        Meta(
            description="Whether a path that is kept while its peer restarts loses to any fresh one, a mesh tunnel "
            "included; false keeps its rank, as RFC 4724 section 4.2 has it."
        ),
    ] = True
    bgp_multipath_ebgp: Annotated[
        int,
        Meta(ge=1, le=64, description="How many equal paths of external peers (two ToRs, say) share the traffic."),
    ] = 8
    bgp_multipath_ibgp: Annotated[
        int, Meta(ge=1, le=64, description="How many equal paths of internal peers share the traffic.")
    ] = 8
    firewall: Annotated[
        Literal["auto", "nft", "iptables-nft", "iptables-legacy", "off"],
        Meta(
            description="How the guard of tunnels, pods' source addresses and natOutgoing are written: as a table of "
            "nftables, or as chains of iptables. auto: iptables-legacy where others' rules are there alone, else nft, "
            "else what this machine has; off: not, and ours are removed."
        ),
    ] = "auto"
    leak_grace_seconds: Annotated[
        int,
        Meta(
            ge=1,
            le=86400,
            extra={"unit": "seconds"},
            description="For how long an address is kept whose pod interface is gone without a DEL.",
        ),
    ] = 900
    resync_seconds: Annotated[
        int,
        Meta(
            ge=1,
            le=86400,
            extra={"unit": "seconds"},
            description="Interval of the full comparison with the kernel; changes are repaired at once without it.",
        ),
    ] = 90
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="Least severe message that is logged.")
    ] = "info"


@dataclass(frozen=True, slots=True)
class Setting:
    """One key of `AgentConfig`, for whoever reads or prints configuration."""

    key: str
    type: Any  # as annotated, for msgspec
    expected: str
    default: object  # None: found out on each machine
    unit: str
    help: str

    @property
    def variable(self) -> str:
        """The environment variable that overrides the key."""
        return _PREFIX + self.key.upper()

    @property
    def toml(self) -> str:
        """The default as TOML."""
        if isinstance(self.default, str | Path):
            return f'"{self.default}"'
        return str(self.default).lower()


def settings() -> tuple[Setting, ...]:
    """All keys, in the order of their declaration."""
    hints = get_type_hints(AgentConfig, include_extras=True)
    return tuple(
        _setting(field.name, hints[field.name], field.default) for field in msgspec.structs.fields(AgentConfig)
    )


def load(path: Path | None, environment: Mapping[str, str] = os.environ) -> AgentConfig:
    """The configuration of the file `path` (None: no file) under that of `environment`.

    Raises OperatorError that lists every unknown key and bad value, with where it stands and what was expected.
    """
    known = {setting.key: setting for setting in settings()}
    problems: list[str] = []
    values: dict[str, Any] = {}
    for key, value in (_read(path) if path else {}).items():
        if key not in known:
            problems.append(f"{path}: {key}: unknown key; {_suggest(key, known)}")
            continue
        _convert(known[key], value, f"{path}: {key}", values, problems)
    variables = {setting.variable: setting for setting in known.values()}
    for name, text in environment.items():
        if name in variables:
            _convert(variables[name], text, f"environment: {name}", values, problems)
        elif name.startswith(_PREFIX) and (near := _near(name, variables, 0.88)):
            # Others may have names that start so (Kubernetes makes some for a Service): only a slip is refused.
            problems.append(f"environment: {name}: unknown variable; did you mean {near}?")
    if "node" not in values:
        _convert(known["node"], _host_name(), "configuration: node: the host's name", values, problems)
    if problems:
        raise OperatorError("\n".join(problems), hint=f"every key is explained in {_REFERENCE}")
    config = AgentConfig(**values)
    if config.health_port == config.metrics_port:
        raise OperatorError(
            f"configuration: health_port and metrics_port are both {config.health_port}", hint="give each its own port"
        )
    if config.tunnel_device == config.vxlan_device:
        raise OperatorError(
            f"configuration: tunnel_device and vxlan_device are both {config.tunnel_device}",
            hint="give each a name of its own",
        )
    return config


def reference() -> str:
    """The reference page, Markdown."""
    rows = [("Key", "Environment", "Value", "Default", "Meaning"), ("---",) * 5]
    for setting in settings():
        value = f"{setting.expected}, in {setting.unit}" if setting.unit else setting.expected
        default = "the host's name" if setting.default is None else f"`{setting.toml}`"
        rows.append((f"`{setting.key}`", f"`{setting.variable}`", value, default, setting.help))
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return (
        "# Configuration of the agent\n\n"
        "<!-- Generated: python -m routed.config > docs/reference/configuration.md -->\n\n"
        f"`routed agent --config FILE` reads a TOML file; `routed node install` writes `{DEFAULT_PATH}`.\n"
        "The environment wins over the file. An unknown key and a bad value stop the start with a message.\n\n"
        f"{table}\n"
    )


def template() -> str:
    """A file with every key as a comment, holding the defaults."""
    lines = ["# Configuration of the routed agent. Each line holds the default: uncomment to change.", ""]
    for setting in settings():
        unit = f" In {setting.unit}." if setting.unit else ""
        lines += [f"# {setting.help}{unit}"]
        lines += ["# Default: the host's name.", '#node = ""'] if setting.default is None else []
        lines += [f"#{setting.key} = {setting.toml}"] if setting.default is not None else []
        lines += [""]
    return "\n".join(lines[:-1]) + "\n"


def _setting(key: str, annotated: Any, default: object) -> Setting:
    base, *metadata = get_args(annotated)
    metas = [meta for meta in metadata if isinstance(meta, Meta)]
    units = [str(meta.extra["unit"]) for meta in metas if meta.extra]
    helps = [meta.description for meta in metas if meta.description]
    return Setting(
        key,
        annotated,
        _expected(key, base, metas),
        None if default is msgspec.NODEFAULT else default,
        units[0] if units else "",
        helps[0] if helps else "",
    )


def _expected(key: str, base: Any, metas: list[Meta]) -> str:
    if get_origin(base) is Literal:
        *most, last = get_args(base)
        return f"{', '.join(most)} or {last}"
    if base is int:
        low = next(meta.ge for meta in metas if meta.ge is not None)
        high = next(meta.le for meta in metas if meta.le is not None)
        return f"whole number from {low} to {high}"
    if base is Path:
        return "absolute path"
    if base is bool:
        return "true or false"
    if key.endswith("_device"):
        return "interface name"
    return {"node": "name of lower-case letters, digits, - and ."}.get(key, "text")


def _read(path: Path) -> dict[str, Any]:
    import tomllib  # only where there is a file

    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise OperatorError(
            f"{path}: cannot read the configuration: {error.strerror}",
            hint="`routed node install` writes one with all defaults",
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise OperatorError(f"{path}: not TOML: {error}", hint='expected lines such as: node = "a1"') from error


def _convert(setting: Setting, value: object, where: str, values: dict[str, Any], problems: list[str]) -> None:
    """Put `value` among `values` if it is as declared, else say so in `problems`. The environment has only text."""
    try:
        from_text = where.startswith("environment")
        values[setting.key] = msgspec.convert(value, setting.type, strict=not from_text, dec_hook=_decode)
    except msgspec.ValidationError:
        problems.append(f"{where}: {value!r}: expected {setting.expected}")


def _decode(wanted: type, value: object) -> object:
    if wanted is Path and isinstance(value, str) and Path(value).is_absolute():
        return Path(value)
    raise ValueError(value)


def _suggest(key: str, known: Mapping[str, Setting]) -> str:
    near = _near(key, known, 0.6)
    return f"did you mean {near}?" if near else f"known are {', '.join(known)}"


def _near(name: str, known: Mapping[str, Setting], cutoff: float) -> str | None:
    import difflib  # only for a slip

    return next(iter(difflib.get_close_matches(name, known, n=1, cutoff=cutoff)), None)


if __name__ == "__main__":
    sys.stdout.write(reference())
