"""Numbers from the kernel's uapi headers, named as there."""

from __future__ import annotations

from enum import IntEnum, IntFlag


class Msg(IntEnum):
    """linux/netlink.h, linux/rtnetlink.h: nlmsg_type."""

    NOOP = 1
    ERROR = 2
    DONE = 3
    NEWLINK = 16
    DELLINK = 17
    GETLINK = 18
    SETLINK = 19
    NEWADDR = 20
    DELADDR = 21
    GETADDR = 22
    NEWROUTE = 24
    DELROUTE = 25
    GETROUTE = 26
    NEWNEIGH = 28
    DELNEIGH = 29
    GETNEIGH = 30
    NEWRULE = 32
    NEWNETCONF = 80
    NEWNSID = 88
    NEWNEXTHOP = 104
    DELNEXTHOP = 105
    GETNEXTHOP = 106
    GETNSID = 90
    SETNEIGHTBL = 67


class Flag(IntFlag):
    """linux/netlink.h: nlmsg_flags."""

    REQUEST = 0x1
    MULTI = 0x2
    ACK = 0x4
    REPLACE = 0x100
    EXCL = 0x200
    CREATE = 0x400
    APPEND = 0x800
    DUMP = 0x300
    DUMP_INTR = 0x10


class Ifla(IntEnum):
    """linux/if_link.h."""

    ADDRESS = 1
    IFNAME = 3
    MTU = 4
    LINK = 5
    MASTER = 10
    OPERSTATE = 16
    LINKINFO = 18
    NET_NS_PID = 19
    IFALIAS = 20
    AF_SPEC = 26
    GROUP = 27
    NET_NS_FD = 28
    EXT_MASK = 29
    NUM_TX_QUEUES = 31
    NUM_RX_QUEUES = 32
    CARRIER = 33
    LINK_NETNSID = 37
    INFO_KIND = 1
    INFO_DATA = 2
    VETH_INFO_PEER = 1


class Ifa(IntEnum):
    """linux/if_addr.h."""

    ADDRESS = 1
    LOCAL = 2
    LABEL = 3
    FLAGS = 8
    PROTO = 11  # Linux 5.18 and later: who configured the address


class Rta(IntEnum):
    """linux/rtnetlink.h: rtattr_type_t."""

    DST = 1
    SRC = 2
    IIF = 3
    OIF = 4
    GATEWAY = 5
    PRIORITY = 6
    PREFSRC = 7
    METRICS = 8
    MULTIPATH = 9
    CACHEINFO = 12
    TABLE = 15
    VIA = 18
    PREF = 20
    ENCAP_TYPE = 21
    ENCAP = 22
    NH_ID = 30


class Nha(IntEnum):
    """linux/nexthop.h: attributes of a nexthop object."""

    ID = 1
    GROUP = 2
    GROUP_TYPE = 3
    BLACKHOLE = 4
    OIF = 5
    GATEWAY = 6
    ENCAP_TYPE = 7
    ENCAP = 8
    FDB = 11
    RES_GROUP = 12


class Iptun(IntEnum):
    """linux/if_tunnel.h: IFLA_IPTUN_*, the INFO_DATA of kind ipip."""

    PROTO = 9
    PMTUDISC = 10


class Nda(IntEnum):
    """linux/neighbour.h."""

    DST = 1
    LLADDR = 2
    CACHEINFO = 3
    PROBES = 4
    IFINDEX = 8
    PROTOCOL = 12


class IflaVxlan(IntEnum):
    """linux/if_link.h: IFLA_VXLAN_*, the INFO_DATA of kind vxlan; those that concern us."""

    ID = 1
    GROUP = 2
    LINK = 3
    LOCAL = 4
    LEARNING = 7
    PORT = 15
    GROUP6 = 16
    LOCAL6 = 17
    COLLECT_METADATA = 25
    GBP = 23
    GPE = 27
    VNIFILTER = 30


class Devconf(IntEnum):
    """linux/ip.h: IPV4_DEVCONF_*, settable in one RTM_SETLINK by IFLA_AF_SPEC."""

    FORWARDING = 1
    PROXY_ARP = 3
    RP_FILTER = 8
    ROUTE_LOCALNET = 26


IFF_UP = 0x1
IFF_LOWER_UP = 0x10000

RT_TABLE_UNSPEC = 0
RT_TABLE_COMPAT = 252
RT_TABLE_MAIN = 254
RT_TABLE_LOCAL = 255
RT_SCOPE_UNIVERSE = 0
RT_SCOPE_LINK = 253
RT_SCOPE_HOST = 254
RT_SCOPE_NOWHERE = 255  # in a deletion: of any scope
RTN_UNICAST = 1
RTN_LOCAL = 2
RTN_BROADCAST = 3
RTN_BLACKHOLE = 6
RTN_UNREACHABLE = 7
RTN_PROHIBIT = 8
RTNH_F_ONLINK = 4
RTM_F_CLONED = 0x200
NUD_PERMANENT = 0x80
NTF_SELF = 0x02
IFA_F_NODAD = 0x02

RTMGRP_LINK = 1
RTMGRP_NEIGH = 4
RTMGRP_IPV4_IFADDR = 0x10
RTMGRP_IPV4_ROUTE = 0x40
RTMGRP_IPV6_IFADDR = 0x100
RTMGRP_IPV6_ROUTE = 0x400
RTNLGRP_NEIGH = 3  # the number of the group, for joining it later
RTMGRP_NEXTHOP = 1 << 31  # RTNLGRP_NEXTHOP is group 32, the last that fits
RTMGRP_IPV4_NETCONF = 1 << 23  # RTNLGRP_IPV4_NETCONF is group 24; the header has no RTMGRP name for it

RTEXT_FILTER_SKIP_STATS = 8  # linux/rtnetlink.h: link dumps without counters are a third of the size

SOL_NETLINK = 270
NETLINK_CAP_ACK = 10
NETLINK_EXT_ACK = 11
NETLINK_GET_STRICT_CHK = 12
NETLINK_ADD_MEMBERSHIP = 1
NETLINK_DROP_MEMBERSHIP = 2
SO_ATTACH_FILTER = 26
SO_SNDBUFFORCE = 32
SO_RCVBUFFORCE = 33

NS_GET_NSTYPE = 0xB703  # linux/nsfs.h: ioctl that tells a namespace's kind, a CLONE_NEW* flag
CLONE_NEWNET = 0x40000000


class Ndta(IntEnum):
    """linux/neighbour.h: attributes of a neighbour table."""

    NAME = 1
    PARMS = 6


class Ndtpa(IntEnum):
    """linux/neighbour.h: NDTA_PARMS."""

    IFINDEX = 1
    PROXY_DELAY = 13
