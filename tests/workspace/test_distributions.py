"""Four distributions: each holds its own package, whole, and nothing of another part."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PARTS = ("core", "agent", "packager", "server")


def build(folder: Path, into: Path) -> zipfile.ZipFile:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(into)]
    built = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    return zipfile.ZipFile(next(into.glob("*.whl")))


@pytest.mark.parametrize("part", PARTS)
def test_a_wheel_holds_its_package_whole_and_nothing_else(part: str, tmp_path: Path) -> None:
    package = f"whimbrel_{part}"
    info = f"{package}-0.1.0.dist-info"
    listed = subprocess.run(
        ["git", "ls-files", package], cwd=ROOT / part, capture_output=True, text=True
    )
    assert listed.returncode == 0, listed.stderr
    with build(ROOT / part, tmp_path) as wheel:
        names = set(wheel.namelist())
        assert {name.partition("/")[0] for name in names} == {package, info}
        assert set(listed.stdout.split()) <= names  # templates, styles, default files
        assert f"{package}/py.typed" in names
        assert f"{info}/licenses/LICENSE" in names
        assert b"\nLicense-Expression: Apache-2.0\n" in wheel.read(f"{info}/METADATA")
        assert not [name for name in names if "__pycache__" in name]


def test_the_meta_install_asks_for_the_four_parts_and_holds_nothing(tmp_path: Path) -> None:
    with build(ROOT, tmp_path) as wheel:
        info = "whimbrel-0.1.0.dist-info"
        assert {name.partition("/")[0] for name in wheel.namelist()} == {info}
        metadata = wheel.read(f"{info}/METADATA").decode()
    asked = [line for line in metadata.splitlines() if line.startswith("Requires-Dist:")]
    assert {line.split()[1] for line in asked} == {f"whimbrel-{part}" for part in PARTS}
    assert "Classifier: Private :: Do Not Upload" in metadata
