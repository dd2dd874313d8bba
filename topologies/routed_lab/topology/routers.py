"""Which router a container of the fabric is, and where that router's configuration belongs in it. Pure."""

from __future__ import annotations

from enum import StrEnum


class RouterKind(StrEnum):
    """The routers that a lab can run; the values are those of the label `routed.router`."""

    BIRD = "bird"
    FRR = "frr"
    GOBGP = "gobgp"

    @property
    def config(self) -> str:
        """Where its Debian package has its configuration, and hence where a bind brings one."""
        return _CONFIG[self]


_CONFIG = {
    RouterKind.BIRD: "/etc/bird/bird.conf",
    RouterKind.FRR: "/etc/frr/frr.conf",
    RouterKind.GOBGP: "/etc/gobgpd.conf",
}


def by_image(image: str) -> RouterKind | None:
    """The router whose name the image's repository has, registry, tag and digest left aside; None if it has none.

    As in `frrouting/frr:v8.4.1` or `registry.example/frrouting/frr@sha256:...`.
    """
    repository = image.partition("@")[0].rpartition("/")[2].partition(":")[0].lower()
    return next((kind for kind in RouterKind if kind in repository), None)


def bound(target: str, kind: RouterKind) -> str | None:
    """The name of the file of the router's configuration that a bind to `target` brings, empty for all of them.

    None for any other bind.
    """
    directory, _, name = target.rstrip("/").rpartition("/")
    own = kind.config.rpartition("/")[0]
    if own != "/etc" and target.rstrip("/") == own:
        return ""
    return name if target == kind.config or (directory == own and own != "/etc") else None
