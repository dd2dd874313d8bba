"""Which backend serves a node, and what its operator should know of its firewall. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

NFT, IPTABLES_NFT, IPTABLES_LEGACY = "nft", "iptables-nft", "iptables-legacy"
NAMES = (NFT, IPTABLES_NFT, IPTABLES_LEGACY)
AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Census:
    """The tables in which others have rules: of x_tables (`legacy`), and of nf_tables, written by whatever (`nft`)."""

    legacy: Sequence[str] = ()
    nft: Sequence[str] = ()

    @property
    def both(self) -> bool:
        """Whether a packet meets rules of either."""
        return bool(self.legacy and self.nft)


def order(setting: str, census: Census) -> tuple[str, ...]:
    """The backends that may serve, the best first, by the configuration's `firewall`; none when it is off.

    A node that keeps its rules in x_tables alone is followed, so that its operator finds ours where he looks. Anywhere
    else nftables are best: one transaction, sets instead of lists, and events of changes.
    """
    if setting != AUTO:
        return tuple(name for name in NAMES if name == setting)
    if census.legacy and not census.nft:
        return IPTABLES_LEGACY, NFT, IPTABLES_NFT
    return NAMES


def warning(census: Census) -> str:
    """What to tell the operator; empty for nothing."""
    if not census.both:
        return ""
    return (
        f"firewall: iptables-legacy ({', '.join(census.legacy)}) and nftables ({', '.join(census.nft)}) both hold "
        "rules: a packet has to pass both, and who lists one does not see the other\n"
        "  find out who writes to which; carry over what is in one (iptables-legacy-save | iptables-nft-restore "
        "--noflush), then flush it there"
    )
