"""What becomes of a call that etcd refuses: the texts are those of etcd 3.4 to 3.6."""

from __future__ import annotations

import pytest

from routed.errors import EnvironmentFault, OperatorError
from routed.store.etcd_refusal import Refusal, Verdict, error_of, judge


@pytest.mark.parametrize(
    ("code", "details", "verdict"),
    [
        ("UNAVAILABLE", "etcdserver: no leader", Verdict.AGAIN),
        ("UNAVAILABLE", "etcdserver: rpc not supported for learner", Verdict.AGAIN),
        ("UNAVAILABLE", "etcdserver: request timed out", Verdict.UNKNOWN),
        ("UNAVAILABLE", "etcdserver: leader changed", Verdict.UNKNOWN),
        ("UNAVAILABLE", "Socket closed", Verdict.UNKNOWN),
        ("DEADLINE_EXCEEDED", "Deadline Exceeded", Verdict.UNKNOWN),
        ("CANCELLED", "the connection was closed", Verdict.UNKNOWN),
        ("UNAUTHENTICATED", "etcdserver: invalid auth token", Verdict.TOKEN),
        ("INVALID_ARGUMENT", "etcdserver: revision of auth store is old", Verdict.TOKEN),
        ("OUT_OF_RANGE", "etcdserver: mvcc: required revision has been compacted", Verdict.COMPACTED),
        ("INVALID_ARGUMENT", "etcdserver: too many operations in txn request", Verdict.REQUEST),
        ("PERMISSION_DENIED", "etcdserver: permission denied", Verdict.FINAL),
        ("RESOURCE_EXHAUSTED", "etcdserver: mvcc: database space exceeded", Verdict.FINAL),
        ("UNIMPLEMENTED", "unknown service etcdserverpb.KV", Verdict.FINAL),
    ],
)
def test_only_what_cannot_have_been_done_may_be_done_again(code, details, verdict):
    assert judge(Refusal(code, details)) is verdict


@pytest.mark.parametrize(
    "details",
    [
        "etcdserver: authentication failed, invalid user ID or password",
        "etcdserver: user name is empty",
        "etcdserver: permission denied",
        "etcdserver: too many operations in txn request",
        "etcdserver: request is too large",
    ],
)
def test_what_the_operator_can_mend_is_said_with_the_way_to_do_it(details):
    error = error_of(Refusal("INVALID_ARGUMENT", details), "h:1")
    assert isinstance(error, OperatorError)
    assert error.message == f"store: etcd at h:1: {details.removeprefix('etcdserver: ')}"
    assert error.hint


def test_whatever_else_it_says_is_a_fault_of_the_environment_in_its_words():
    error = error_of(Refusal("INTERNAL", "something new"), "h:1")
    assert isinstance(error, EnvironmentFault)
    assert error.message == "store: etcd at h:1: something new"
