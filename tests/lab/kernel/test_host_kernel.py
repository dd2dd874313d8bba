"""Asking the host kernel what it can make leaves no trace on it."""

from __future__ import annotations

import subprocess
import sys

from routed_lab import kernels

ASK = """
import socket
from routed_lab import kernels
before = socket.if_nameindex()
assert kernels.missing_kinds(["bridge", "veth"]) == frozenset()
assert socket.if_nameindex() == before
"""


def test_a_kind_that_no_kernel_has_is_missing_and_veth_is_not() -> None:
    assert kernels.missing_kinds(["veth", "no-such-kind"]) == {"no-such-kind"}


def test_no_link_is_made_where_the_question_is_asked() -> None:
    """In a namespace of its own, because other tests make links in the machine's meanwhile."""
    subprocess.run(["unshare", "--net", sys.executable, "-c", ASK], check=True, timeout=60)
