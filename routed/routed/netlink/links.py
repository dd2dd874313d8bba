"""Many links deleted at once.

The kernel waits some 20 ms for each link that it deletes by itself, and once for a whole group of them: 30 go in the
time of one.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import Final

from routed.netlink.constants import Ifla, Msg
from routed.netlink.message import IFINFO, u32
from routed.netlink.socket import Netlink, NetlinkError

DOOMED: Final = 0x72746400
"""The group (IFLA_GROUP) that a link of ours is in while it waits for its deletion; "rtd" read as a number."""
_GROUP = u32(Ifla.GROUP, DOOMED)


def delete_links(netlink: Netlink, indices: Sequence[int]) -> dict[int, int]:
    """Delete the links with these indices; errno by position of those that are still there.

    What is in the group of the doomed goes with them. A link that is gone already is no failure.
    """
    refused = netlink.batch([(Msg.SETLINK, 0, IFINFO.pack(0, 0, index, 0, 0) + _GROUP) for index in indices])
    failures = {position: number for position, number in refused.items() if number != errno.ENODEV}
    if len(refused) == len(indices):
        return failures
    try:
        netlink.request(Msg.DELLINK, IFINFO.pack(0, 0, 0, 0, 0) + _GROUP)
    except NetlinkError as error:
        if error.errno != errno.ENODEV:  # gone meanwhile, all of them
            number = error.errno or errno.EIO
            failures.update({position: number for position in range(len(indices)) if position not in refused})
    return failures
