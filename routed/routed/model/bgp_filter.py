"""What BGPFilter says: rules on the routes that a peer sends us (import) and is sent (export)."""

from __future__ import annotations

from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, Literal

from msgspec import Meta, field

from routed.model.fields import AsNumber, Community, Priority
from routed.model.schema import Schema

LengthV4 = Annotated[int, Meta(ge=0, le=32)]
LengthV6 = Annotated[int, Meta(ge=0, le=128)]


class MatchOperator(StrEnum):
    """How a route's prefix is compared with a rule's `cidr`."""

    EQUAL = "Equal"
    NOT_EQUAL = "NotEqual"
    IN = "In"
    NOT_IN = "NotIn"


class Action(StrEnum):
    """What becomes of a route that matches."""

    ACCEPT = "Accept"
    REJECT = "Reject"


class PeerType(StrEnum):
    """Whether the peer is in another AS."""

    EBGP = "eBGP"
    IBGP = "iBGP"


class PrefixLengthV4(Schema, frozen=True):
    """A range of lengths, both ends included."""

    min: Annotated[LengthV4 | None, Meta(description="Shortest; default: the length of `cidr`.")] = None
    max: Annotated[LengthV4 | None, Meta(description="Longest; default: 32.")] = None


class PrefixLengthV6(Schema, frozen=True):
    """A range of lengths, both ends included."""

    min: Annotated[LengthV6 | None, Meta(description="Shortest; default: the length of `cidr`.")] = None
    max: Annotated[LengthV6 | None, Meta(description="Longest; default: 128.")] = None


class CommunityMatch(Schema, frozen=True):
    """Communities that a route must carry."""

    values: Annotated[
        tuple[Community, ...],
        Meta(min_length=1, max_length=1, description="One community, AA:NN or AA:NN:MM."),
    ]


class AddCommunity(Schema, frozen=True):
    """Attach a community."""

    value: Annotated[Community, Meta(description="The community, AA:NN or AA:NN:MM.")]


class PrependASPath(Schema, frozen=True):
    """Put AS numbers in front of the AS path."""

    prefix: Annotated[
        tuple[AsNumber, ...],
        Meta(min_length=1, max_length=10, description="The numbers, as the path will begin."),
    ]


class SetPriority(Schema, frozen=True):
    """Change the route's priority."""

    value: Annotated[Priority, Meta(description="The priority; lower is preferred, 1024 is usual.")]


class Operation(Schema, frozen=True):
    """One change to a route; exactly one field is set."""

    add_community: Annotated[AddCommunity | None, Meta(description="Attach a community.")] = None
    prepend_as_path: Annotated[PrependASPath | None, Meta(description="Put AS numbers in front of the AS path.")] = (
        field(name="prependASPath", default=None)
    )
    set_priority: Annotated[SetPriority | None, Meta(description="Change the priority; only on import.")] = None


class _Rule(Schema, frozen=True, kw_only=True):
    """What the rules of both families have in common: all that is stated must hold of a route."""

    action: Annotated[Action, Meta(description="Accept or Reject a route that matches; later rules are not asked.")]
    match_operator: Annotated[
        MatchOperator | None, Meta(description="How a route's prefix is compared with `cidr`, which needs it.")
    ] = None
    source: Annotated[
        Literal["RemotePeers"] | None,
        Meta(description="RemotePeers: only routes learned by BGP, none that we originate. On import all are."),
    ] = None
    interface: Annotated[
        str | None, Meta(description="Only on import: routes whose next hop is behind this interface; * and ? match.")
    ] = None
    peer_type: Annotated[PeerType | None, Meta(description="Only with peers of this type.")] = None
    communities: Annotated[CommunityMatch | None, Meta(description="Only routes that carry this community.")] = None
    as_path_prefix: Annotated[tuple[AsNumber, ...], Meta(description="Only routes whose AS path begins so.")] = field(
        name="asPathPrefix", default=()
    )
    priority: Annotated[Priority | None, Meta(description="Only routes of this priority.")] = None
    operations: Annotated[
        tuple[Operation, ...], Meta(max_length=10, description="Changes to a route that is accepted, in order.")
    ] = ()


class FilterRuleV4(_Rule, frozen=True, kw_only=True):
    """A rule on IPv4 routes."""

    cidr: Annotated[IPv4Network | None, Meta(description="The prefix that a route's is compared with.")] = None
    prefix_length: Annotated[PrefixLengthV4 | None, Meta(description="Narrows the match to these lengths.")] = None


class FilterRuleV6(_Rule, frozen=True, kw_only=True):
    """A rule on IPv6 routes."""

    cidr: Annotated[IPv6Network | None, Meta(description="The prefix that a route's is compared with.")] = None
    prefix_length: Annotated[PrefixLengthV6 | None, Meta(description="Narrows the match to these lengths.")] = None


FilterRule = FilterRuleV4 | FilterRuleV6


class BGPFilterSpec(Schema, frozen=True):
    """Rules in order. A route that none matches is left to the next filter, and at last to the safe defaults."""

    import_v4: Annotated[
        tuple[FilterRuleV4, ...], Meta(description="Rules on IPv4 routes that the peer sends us.")
    ] = ()
    export_v4: Annotated[tuple[FilterRuleV4, ...], Meta(description="Rules on IPv4 routes that we send the peer.")] = ()
    import_v6: Annotated[
        tuple[FilterRuleV6, ...], Meta(description="Rules on IPv6 routes that the peer sends us.")
    ] = ()
    export_v6: Annotated[tuple[FilterRuleV6, ...], Meta(description="Rules on IPv6 routes that we send the peer.")] = ()
