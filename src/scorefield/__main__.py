"""`python -m scorefield` is `scorefield`."""

import sys

from scorefield.cli import main

sys.exit(main())
