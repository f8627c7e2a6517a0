"""``whimbrel`` in a process that is killed in the middle: ``python -m tests.support.interrupted``.

``WHIMBREL_KILL_AT=<n>`` kills the process with SIGKILL right before the n-th effect on a
destination: a write, a rename or a request that changes something. Nothing is cleaned up, as when
the power goes.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class Count:
    """Counts effects, and dies at one."""

    def __init__(self, at: int) -> None:
        self._left = at

    def before(self, effect: Callable[..., Any]) -> Callable[..., Any]:
        """Return ``effect``, counted."""

        def counted(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - passed on
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            self._left -= 1
            return effect(*args, **kwargs)

        return counted


def main() -> int:
    """Run the command of this process's arguments until it is killed."""
    from pathlib import Path

    from whimbrel_core import cli
    from whimbrel_packager.destinations.http import Http

    count = Count(int(os.environ["WHIMBREL_KILL_AT"]))
    ask = Http.ask

    def asked(self: Http, method: str, path: str, **more: Any) -> Any:  # noqa: ANN401
        changes = method not in {"GET", "HEAD"}
        return (count.before(ask) if changes else ask)(self, method, path, **more)

    Http.ask = asked  # type: ignore[method-assign]
    # The bytes are in a temporary file, then they have their name, then the folder is synced.
    os.fsync = count.before(os.fsync)
    Path.replace = count.before(Path.replace)  # type: ignore[method-assign]
    return cli.main(sys.argv[1:])


def run(at: int, *words: object) -> int:
    """Run ``whimbrel`` with these words and kill it before the given effect; return how it ended.

    0: it was done before that; -9: it was killed.
    """
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.interrupted", *map(str, words)],
        env={**os.environ, "WHIMBREL_KILL_AT": str(at)},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode in {0, -signal.SIGKILL}, done.stderr
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
