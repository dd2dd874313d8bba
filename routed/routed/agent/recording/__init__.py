"""What one agent was told, as a file, and the pure core run over it again.

    plain.py      values of the model as JSON has them, and back (pure)
    lines.py      the lines of a recording (pure)
    recorder.py   the agent's inputs, written as they come
    replay.py     Loc-RIB and calc over the lines of a recording: their decisions (pure)

The seams are where inputs enter what decides: the methods of `Routing`, and the View that the `Programmer` hands to
calc, which is what netlink, the plugin and IPAM have said by then.
"""
