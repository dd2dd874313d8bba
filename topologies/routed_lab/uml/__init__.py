"""A throw-away User-mode Linux kernel whose root file system is this machine's own file tree.

    outside.py   the calling process: starts it all, relays streams and signals, keeps the deadlines
    sandbox.py   its child: namespaces in which everything but the `--rw` directories is read-only; runs linux.uml
    guest.py     PID 1 of the new kernel: an overlay in memory as its root, then the command
    frames.py    what outside and guest say to one another over the kernel's serial line (pure)
    system.py    the system calls that Python does not have
    needs.py     what the machine must have, and which Debian package brings it

The guest imports this package with a bare interpreter (`-I -S`), and each import costs there six times what it costs
outside: frames, guest and system stand on little of the standard library, and this file on nothing.
"""
