"""`routed` with the speaker's mode chosen from outside: `agent_process.py MODE WORD...` is `routed WORD...`.

Users have no such choice: the stock mode is what the speaker falls back to by itself, where ExaBGP is not as expected.
"""

from __future__ import annotations

import functools
import sys

import routed.agent.main
from routed.cli.main import main
from routed_bgp.exabgp.speaker import ExaBGP

if __name__ == "__main__":
    mode, *words = sys.argv[1:]
    routed.agent.main.ExaBGP = functools.partial(ExaBGP, stock=mode == "stock")  # type: ignore[misc,assignment]
    sys.exit(main(words))
