"""Bundles on the disk that no slot refers to."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from whimbrel_agent.update import download
from whimbrel_core.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from whimbrel_agent.paths import DataDirectory
    from whimbrel_agent.update.machine import SlotState


def collect(home: DataDirectory, states: Iterable[SlotState], *, keep: int) -> None:
    """Remove bundles that no slot refers to, but for the newest few.

    Deltas start there, and so does whatever comes later for a version that was given up: labels
    of its predictions, and windows that a crash left open. What an updater fetches meanwhile,
    for another slot or for none (trust files), is left alone until the next time.

    Args:
        home: data directory.
        states: the slots.
        keep: how many that no slot refers to are kept.
    """
    needed: set[str] = set()
    for state in states:
        versions = (state.current, state.previous, state.candidate)
        needed |= {version.digest for version in versions if version is not None}
    with contextlib.suppress(UnavailableError), download.alone(home):
        for path in home.downloads.glob("*"):
            if path.suffix in {".part", ".whim"} and path.stem not in needed:
                path.unlink(missing_ok=True)
    idle = [path for path in home.store.glob("*.whim") if path.stem not in needed]
    kept = sorted(idle, key=lambda path: path.stat().st_mtime, reverse=True)
    for path in kept[keep:]:
        path.unlink(missing_ok=True)
