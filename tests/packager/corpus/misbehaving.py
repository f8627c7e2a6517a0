"""Models whose own code hangs, crashes or eats memory when they are loaded.

A pickle finds them here, in the conversion's child process.
"""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from sklearn.linear_model import LogisticRegression


class Hangs(LogisticRegression):  # type: ignore[misc] # scikit-learn ships no types
    """Never comes back."""

    def __setstate__(self, state: Any) -> None:  # noqa: ANN401 - whatever it was pickled with
        time.sleep(3600)


class Crashes(LogisticRegression):  # type: ignore[misc] # likewise
    """Ends its process."""

    def __setstate__(self, state: Any) -> None:  # noqa: ANN401 - likewise
        os.kill(os.getpid(), signal.SIGSEGV)


class Eats(LogisticRegression):  # type: ignore[misc] # likewise
    """Takes all the memory there is."""

    def __setstate__(self, state: Any) -> None:  # noqa: ANN401 - likewise
        self.held = [bytearray(1 << 28) for _ in range(64)]
