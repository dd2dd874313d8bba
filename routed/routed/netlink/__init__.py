"""rtnetlink as it is on the wire: messages, one socket type, and the few constants that routed uses.

Ours and not a library's because the agent writes routes in batches and wires pods in three messages; what that is
worth is measured in docs/decisions/0003. Standard library only, so that it also costs nothing to import.
"""
