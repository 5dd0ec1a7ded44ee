"""`python -m rxtasks` is the command `rxtasks`."""

import sys

from rxtasks.cli.main import main

sys.exit(main())
