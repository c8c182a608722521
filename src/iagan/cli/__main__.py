"""`python -m iagan.cli`: the command `iagan`."""

import sys

from iagan.cli import main

sys.exit(main())
