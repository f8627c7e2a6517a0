"""The ``whimbrel`` command, run in this process as its console script runs it."""

from __future__ import annotations

import contextlib
import io
from typing import NamedTuple

from whimbrel_core import cli


class Done(NamedTuple):
    code: int
    out: str
    err: str


def whimbrel(*words: object) -> Done:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = cli.main([str(word) for word in words])
        except SystemExit as error:
            code = int(error.code or 0)
    return Done(code, out.getvalue(), err.getvalue())
