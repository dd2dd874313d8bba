"""What a refusal of etcd means for the call: done or not, to be tried again or not, and whose fault it is.

The texts are etcd's own (`api/v3rpc/rpctypes/error.go`), the same since 3.0; the code alone says too little.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from routed.errors import EnvironmentFault, OperatorError, RoutedError


class Verdict(Enum):
    """What to do about a call that was refused."""

    AGAIN = auto()
    """It was not done; another member, or the same one later, may do it."""
    UNKNOWN = auto()
    """It may have been done."""
    TOKEN = auto()
    """It was not done: the token has to be made anew."""
    COMPACTED = auto()
    """It was not done: the revision is no longer kept."""
    REQUEST = auto()
    """It was not done: the request itself is at fault, whoever is asked."""
    FINAL = auto()
    """It was not done, and will not be as things are."""


class Refusal(Exception):  # noqa: N818  what etcd answers is not an error of the program
    """A call's failure as gRPC tells it: the name of the status code and the text."""

    def __init__(self, code: str, details: str) -> None:
        super().__init__(f"{details} ({code})")
        self.code = code
        self.details = details


@dataclass(frozen=True, slots=True)
class _Meaning:
    verdict: Verdict
    kind: type[OperatorError | EnvironmentFault] = EnvironmentFault
    hint: str = "see the log of etcd"


_TEXTS = {
    "no leader": _Meaning(Verdict.AGAIN, hint="etcd has no majority: see `etcdctl endpoint status --cluster`"),
    "rpc not supported for learner": _Meaning(Verdict.AGAIN, hint="name the voting members in the store's URL"),
    "invalid auth token": _Meaning(Verdict.TOKEN, OperatorError, "etcd does not take the token that it gave"),
    "revision of auth store is old": _Meaning(Verdict.TOKEN, OperatorError, "users of etcd change all the time"),
    "mvcc: required revision has been compacted": _Meaning(Verdict.COMPACTED),
    "authentication failed, invalid user ID or password": _Meaning(
        Verdict.FINAL, OperatorError, "correct the user of the store's URL, or what its password_file holds"
    ),
    "user name is empty": _Meaning(
        Verdict.FINAL, OperatorError, "etcd wants a user: write the URL as etcd://USER@HOST:PORT?password_file=FILE"
    ),
    "permission denied": _Meaning(
        Verdict.FINAL,
        OperatorError,
        "give the user's role the prefix: `etcdctl role grant-permission ROLE --prefix=true readwrite PREFIX/routed/`",
    ),
    "too many operations in txn request": _Meaning(
        Verdict.REQUEST, OperatorError, "apply fewer resources at once, or raise --max-txn-ops of etcd (128 by default)"
    ),
    "request is too large": _Meaning(
        Verdict.REQUEST, OperatorError, "apply fewer resources at once, or raise --max-request-bytes of etcd"
    ),
    "mvcc: database space exceeded": _Meaning(
        Verdict.FINAL, hint="compact and defragment etcd, raise --quota-backend-bytes, then `etcdctl alarm disarm`"
    ),
    "too many requests": _Meaning(Verdict.AGAIN, hint="etcd is overloaded: see its log for slow disks"),
    "corrupt cluster": _Meaning(Verdict.FINAL, hint="etcd's members differ: see its documentation on data corruption"),
}
_CODES = {
    "UNIMPLEMENTED": _Meaning(Verdict.FINAL, OperatorError, "is that port etcd's, version 3.4 or later?"),
}


def judge(refusal: Refusal) -> Verdict:
    """What to do about the call."""
    return _meaning(refusal).verdict


def error_of(refusal: Refusal, endpoint: str) -> RoutedError:
    """What to tell whoever called, when there is nothing left to try."""
    meaning = _meaning(refusal)
    what = refusal.details.removeprefix("etcdserver: ") or refusal.code
    return meaning.kind(f"store: etcd at {endpoint}: {what}", hint=meaning.hint)


def _meaning(refusal: Refusal) -> _Meaning:
    text = refusal.details.removeprefix("etcdserver: ")
    return _TEXTS.get(text) or _CODES.get(refusal.code) or _Meaning(Verdict.UNKNOWN)
