"""`python -m fastmlp.cli` is the command `fastmlp` too, as it was while this was a module."""

import sys

from fastmlp.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
