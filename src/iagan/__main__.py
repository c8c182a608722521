"""`python -m iagan`: the command `iagan`."""

import sys

from iagan.cli import main

sys.exit(main())
