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
    # Over bytes, as a terminal is: some commands print encoded JSON.
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = cli.main([str(word) for word in words])
        except SystemExit as error:
            code = int(error.code or 0)
    texts = [stream.buffer.getvalue().decode("utf-8") for stream in (out, err)]
    return Done(code, *texts)
