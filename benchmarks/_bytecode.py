"""Byte code for the processes that a benchmark starts, as a device has it.

``pip`` compiles what it installs. A checkout, or an environment with ``PYTHONDONTWRITEBYTECODE``,
has none: every start then compiles all of numpy first, which doubles the CPU of a cold start.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def keep_bytecode(folder: Path) -> None:
    """Let processes started from here keep their byte code in ``folder``; the first fills it."""
    os.environ["PYTHONPYCACHEPREFIX"] = str(folder)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
