"""`python -m kpedge` and the `kpedge` command."""

from __future__ import annotations

import sys

from kpedge.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
