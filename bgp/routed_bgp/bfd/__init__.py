"""BFD for BGP peers: RFC 5880 asynchronous mode, single-hop (RFC 5881) and multihop (RFC 5883), both families.

The sessions live in a small process of their own (`process`), so that a busy or stopped agent misses no packet. The
agent holds a `client.Bfd`: it is given the whole set of wanted sessions and yields `BfdChange`s.

What the agent must do with them (RFC 5882 sections 3.2, 4.3 and 10):

- A session that never came up must not hold BGP down: nobody may speak BFD at the other end. Start BGP regardless, and
  act on changes only.
- `BfdChange.failed` (Up -> Down because nothing was heard, or because the peer says so): the path is broken. Close
  the BGP session and flush the peer's paths at once, stale ones too.
- Down without `failed` (the peer's AdminDown, or ours): BFD is no longer there to say anything. Leave BGP alone.
- While a peer is in graceful restart (its BGP connection closed without NOTIFICATION): a failure counts only if the
  peer's packets had the C bit (`BfdChange.control_independent`); without it BFD died with the peer's control plane,
  which is the restart itself (RFC 5882 section 4.3.2).
- Our own C bit is clear, because this process ends with the agent: a peer that helps our restart keeps our paths
  although BFD fails.
- When the agent ends: first close BGP, without NOTIFICATION, then at once `Bfd.close`, which says AdminDown. A peer
  should take no notice of AdminDown, but FRR 8.4 and BIRD 2.0 take it for a failure and end a BGP session that is up,
  dropping our paths. Once the session is closed, FRR keeps the stale paths whatever BFD says. BIRD does so with `bfd
  graceful` in its BGP protocol; without it, it drops them in any order, and when the agent is killed too.

Not done: demand mode and the echo function of our own (a peer may use demand mode), and authentication, so packets with
the A bit are refused. Single-hop sessions have GTSM instead; multihop ones only their random discriminators.
"""
