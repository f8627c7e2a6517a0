"""The examples in docstrings are true."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
MODULES = sorted(
    ".".join(path.relative_to(ROOT / part).with_suffix("").parts).removesuffix(".__init__")
    for part in ("core", "agent", "packager", "server")
    for path in (ROOT / part).glob(f"whimbrel_{part}/**/*.py")
    if ">>> " in path.read_text()
)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_are_true(name: str) -> None:
    module = importlib.import_module(name)
    # As at a reader's prompt: `from __future__ import annotations` is the module's own affair.
    names = {key: value for key, value in vars(module).items() if key != "annotations"}
    result = doctest.testmod(module, globs=names)
    assert result.attempted > 0
    assert result.failed == 0
