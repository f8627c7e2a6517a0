"""Git, as the tests of checkouts run it."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

needs_git = pytest.mark.needs("git")


def git(folder: Path, *words: str) -> str:
    plain = ("-c", "user.name=n", "-c", "user.email=n@example.org", "-c", "commit.gpgsign=false")
    done = subprocess.run(
        ["git", *plain, *words], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()
