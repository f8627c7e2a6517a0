"""What others watch models with, asked in an environment of its own (`make peers`).

Nothing of theirs is imported here, and nothing of ours there: a benchmark asks a module of this
folder, which runs with the peers' Python, with JSON and arrays::

    answer = ask("whylogs_costs", {"rows": 3600}, x=rows)

and that module ends with ``serve(function)``, where ``function(request, arrays)`` returns what
JSON can hold. What libraries print goes to stderr, and is shown only where a child fails.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent.parent
PYTHON = ROOT / ".venv-peers/bin/python"
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


class PeerMissingError(Exception):
    """The peers' environment is not there, or a child of it failed; the message says what to do."""


def installed() -> bool:
    """Whether the peers' environment is there."""
    return PYTHON.exists()


def ask(module: str, request: object = None, **arrays: NDArray[Any]) -> Any:  # noqa: ANN401 — JSON
    """Return what ``benchmarks.peers.<module>`` answers to ``request`` and ``arrays``.

    Raises:
        PeerMissingError: no environment, or the child failed.
    """
    if not installed():
        raise PeerMissingError(
            f"nothing to compare with: {PYTHON.parent.parent.name} is not there\nhint:  make peers"
        )
    import numpy as np

    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / "arrays.npz", allow_pickle=False, **arrays)
        child = subprocess.run(
            [str(PYTHON), "-W", "ignore", "-m", f"benchmarks.peers.{module}", folder],
            input=json.dumps(request),
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
            env={**os.environ, **_ONE_THREAD, "PYTHONHASHSEED": "0"},
        )
        answer = Path(folder) / "answer.json"
        if child.returncode or not answer.exists():
            raise PeerMissingError(
                f"{module} ended with {child.returncode} in the peers' environment:\n"
                f"{child.stderr[-2000:]}\nhint:  make peers"
            )
        return json.loads(answer.read_text())


def serve(function: Callable[[Any, Mapping[str, NDArray[Any]]], object]) -> None:
    """Answer the one request of `ask` with ``function``; called in the peers' environment."""
    import numpy as np

    folder = Path(sys.argv[1])
    request = json.loads(sys.stdin.read())
    with np.load(folder / "arrays.npz") as arrays, contextlib.redirect_stdout(io.StringIO()):
        answer = function(request, dict(arrays))
    (folder / "answer.json").write_text(json.dumps(answer, default=float))
