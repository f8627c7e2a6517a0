"""What foreign frameworks say while they work, and when they fail."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def reason(error: BaseException) -> str:
    """Return the first sentence of an error's cause, without paths and advice."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    text = re.sub(r"\x1b\[\d*m", "", str(cause))
    first = next((line.strip() for line in text.splitlines() if line.strip()), "")
    first = re.sub(r"(/[\w.\-]+){2,}", "…", first).partition(" For more information")[0]
    return f"{first[:300]} ({type(cause).__name__})"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what a framework tells its developers to itself."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
