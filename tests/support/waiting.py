"""Waiting for what is promised to happen, and saying what did not."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from whimbrel_core.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

WAIT_S = 60.0


def until(condition: Callable[[], object], what: str, timeout_s: float = WAIT_S) -> None:
    """Wait until ``condition`` holds; a peer that cannot be reached is asked again."""
    deadline = time.monotonic() + timeout_s
    while True:
        last = "it does not hold"
        try:
            if condition():
                return
        except UnavailableError as error:
            last = error.message
        assert time.monotonic() < deadline, f"waited {timeout_s:.0f} s for {what}: {last}"
        time.sleep(0.02)
