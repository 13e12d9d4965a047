"""``python -m fedkim``."""

import sys

from fedkim.cli import main

if __name__ == "__main__":
    sys.exit(main())
