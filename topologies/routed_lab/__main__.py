"""`python -m routed_lab`."""

import sys

from routed_lab.cli import main

sys.exit(main())
