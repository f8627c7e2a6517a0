"""What `whimbrel diff` prints and writes, and what it refuses."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import msgspec
import pytest

from tests.packager.command import whimbrel
from tests.support.page import Reader
from whimbrel_packager.repository import delta
from whimbrel_packager.signing import keyfiles

if TYPE_CHECKING:
    from pathlib import Path

    from tests.packager.conftest import Packed

COMPATIBLE = "compatible: devices can be updated without changing callers"


@pytest.fixture(scope="module")
def pair(packed: Packed, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A bundle, and one that follows it."""
    folder = tmp_path_factory.mktemp("pair")
    later = folder / "flights-1.1.0.whim"
    later.write_bytes(packed.again("1.1.0", 2, licence="MIT"))
    return packed.bundle, later


def test_the_command_says_what_differs_and_ends_with_the_verdict(
    packed: Packed, pair: tuple[Path, Path]
) -> None:
    done = whimbrel("diff", *pair, "--trust", packed.key, "--check")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0] == "flights  1.0.0 → 1.1.0, release 1 → 2"
    assert lines[-1] == COMPATIBLE
    assert "  notice    lineage   licence is MIT, was not stated" in lines
    assert "NOT VERIFIED" not in done.out
    assert "NOT VERIFIED (give --trust)" in whimbrel("diff", *pair).out


def test_the_delta_is_the_one_that_publishing_would_make(pair: tuple[Path, Path]) -> None:
    done = whimbrel("diff", *pair, "--json")
    value = msgspec.json.decode(done.out)
    old, new = (path.read_bytes() for path in pair)
    made = delta.encode(old, new)
    assert made is not None
    assert value["delta_bytes"] == len(made)
    assert value["compatible"] is value["update"] is True
    assert value["old"]["version"] == "1.0.0"
    assert value["new"]["signature"] == "unchecked"
    assert {c["what"] for c in value["changes"]} == {"licence", "size"}
    assert [f["feature"] for f in value["features"]]


def test_check_refuses_what_breaks_callers_and_the_page_says_why(
    packed: Packed, tmp_path: Path
) -> None:
    later, page = tmp_path / "flights-2.0.0.whim", tmp_path / "diff.html"
    later.write_bytes(packed.again("2.0.0", 2, classes=("no", "yes")))
    done = whimbrel("diff", packed.bundle, later, "--check", "--html", page)
    assert done.code == 5
    assert "compatibility.schema" in done.err
    assert "flights-2.0.0 breaks callers of flights-1.0.0: classes: 0, 1 gone" in done.err
    assert done.out.splitlines()[-1].startswith("breaking: classes")
    assert whimbrel("diff", packed.bundle, later).code == 0, "without --check it only tells"
    seen = Reader(page.read_text())
    assert "breaking: classes: 0, 1 gone, no, yes new" in seen.text
    assert seen.titles == ["Changes", "Quality", "Reference data", "Files"]


def test_a_key_that_did_not_sign_one_of_them_tells_nothing(
    packed: Packed, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    other, page = tmp_path / "other.whim", tmp_path / "diff.html"
    _, path = keyfiles.create(tmp_path, "other")[0], tmp_path / "other.pem"
    other.write_bytes(packed.again("1.1.0", 2, key=path))
    done = whimbrel("diff", packed.bundle, other, "--trust", packed.key, "--html", page)
    assert done.code == 4
    assert str(other) in done.err
    assert done.out == ""
    assert not page.exists()
    both = whimbrel("diff", packed.bundle, other, "--trust", packed.key, "--trust", path)
    assert both.code == 0
    assert "signed by key" in both.out


def test_the_page_is_not_written_over_a_bundle(pair: tuple[Path, Path], tmp_path: Path) -> None:
    old, new = tmp_path / "a.whim", tmp_path / "b.whim"
    for source, target in zip(pair, (old, new), strict=True):
        shutil.copy(source, target)
    assert whimbrel("diff", old, new, "--html", new).code == 2
    assert new.read_bytes() == pair[1].read_bytes()


def test_the_page_goes_to_standard_output_alone(pair: tuple[Path, Path]) -> None:
    done = whimbrel("diff", *pair, "--html", "-")
    assert done.code == 0
    assert Reader(done.out).titles == ["Changes", "Quality", "Reference data", "Files"]
    assert done.out == whimbrel("diff", *pair, "--html", "-").out
