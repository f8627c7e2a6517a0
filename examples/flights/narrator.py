"""Tells the story as it happens: one line per event, with the date in the data, and progress.

On a terminal a progress line is redrawn at the bottom; into a file or pipe, a line is written
now and then instead.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from datetime import date

_WIDTH: Final = 28
_REDRAW_S: Final = 0.1
_PLAIN_EVERY_S: Final = 15.0
_STYLES: Final = {"dim": "2", "bold": "1", "good": "32", "bad": "31", "warn": "33", "title": "1;36"}


class Narrator:
    """Prints to standard output; `elapsed_s` counts from its making."""

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty()
        self._started = self._drawn = time.monotonic()
        self._bar = ""

    @property
    def elapsed_s(self) -> float:
        """Seconds since the story began."""
        return time.monotonic() - self._started

    def style(self, text: str, name: str) -> str:
        """Return ``text`` in a style on a terminal, unchanged elsewhere."""
        return f"\x1b[{_STYLES[name]}m{text}\x1b[0m" if self._terminal else text

    def chapter(self, title: str) -> None:
        """Begin a part of the story."""
        self._print("")
        self._print(f"{self.style(title, 'title')}  {self.style(f'{self.elapsed_s:.0f} s', 'dim')}")

    def command(self, line: str) -> None:
        """Show a command that a person would type."""
        self._print(self.style(f"  $ {line}", "dim"))

    def say(self, text: str, *, on: date | None = None, style: str = "") -> None:
        """Tell one event, with its date in the data when it has one."""
        when = f"{on}" if on else " " * 10
        self._print(f"  {self.style(when, 'dim')}  {self.style(text, style) if style else text}")

    def progress(self, done: int, total: int, what: str) -> None:
        """Show how far the replay is."""
        now = time.monotonic()
        if not self._terminal:
            if now - self._drawn > _PLAIN_EVERY_S:
                self._drawn = now
                print(f"  … {what} ({100 * done // total} %)", flush=True)
            return
        if now - self._drawn < _REDRAW_S:
            return
        self._drawn = now
        filled = _WIDTH * done // total
        self._bar = f"  {'━' * filled}{'─' * (_WIDTH - filled)}  {what}"
        sys.stdout.write(f"\r\x1b[2K{self._bar}")
        sys.stdout.flush()

    def end_progress(self) -> None:
        """Take the progress line away."""
        if self._bar:
            sys.stdout.write("\r\x1b[2K")
            self._bar = ""

    def _print(self, line: str) -> None:
        bar = self._bar
        self.end_progress()
        print(line, flush=True)
        if bar and self._terminal:
            self._bar = bar
            sys.stdout.write(bar)
            sys.stdout.flush()
