"""A child that must not outlive the agent."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # include/uapi/linux/prctl.h


def follow(parent: int) -> None:
    """Be killed when `parent` dies, however it dies; peers then see what they see in a restart."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before we asked
        sys.exit("routed: the agent is gone")
