"""Builds a lab in the kernel it runs in, keeps it, checks it and removes it; run as `python -m routed_lab.runner`.

It speaks `routed_lab.wire` on its standard input and output. Everything it starts dies with it.
"""
