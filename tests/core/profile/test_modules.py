"""What the modules of profiles promise about themselves."""

from __future__ import annotations

import doctest
import importlib
import subprocess
import sys

import pytest

WITHOUT_NUMPY = [
    "layout",
    "counts",
    "window",
    "baseline",
    "encoding.packing",
    "quality.estimates",
    "drift.levels",
]


def test_windows_and_baselines_are_read_and_merged_without_numpy() -> None:
    """A device's control process does not have the memory for it."""
    imports = ", ".join(f"whimbrel_core.profile.{name}" for name in WITHOUT_NUMPY)
    script = f"import sys, {imports}; assert 'numpy' not in sys.modules, 'numpy came along'"
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize(
    "name",
    [
        "drift.chisquare",
        "drift.discoveries",
        "drift.divergences",
        "drift.fisher",
        "watching.rate",
        "watching.series",
    ],
)
def test_the_examples_in_docstrings_hold(name: str) -> None:
    module = importlib.import_module(f"whimbrel_core.profile.{name}")
    failed, tried = doctest.testmod(module)
    assert tried
    assert not failed
