"""`python -m routed_bgp.bfd FD PARENT`: the BFD process, see `process`."""

from routed_bgp.bfd.process import main

main()
