"""`python -m ptharness` is the `ptharness` command."""

from __future__ import annotations

import sys

from ptharness.cli import main

if __name__ == "__main__":
    sys.exit(main())
