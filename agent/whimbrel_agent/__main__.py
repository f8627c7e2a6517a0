"""``python -m whimbrel_agent``: the same as ``whimbrel agent``."""

from __future__ import annotations

import sys

from whimbrel_core.cli import main

if __name__ == "__main__":
    sys.exit(main(["agent", *sys.argv[1:]]))
