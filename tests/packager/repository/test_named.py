"""Releases that are named NAME@VERSION: read out of a repository, as its metadata vouches for them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.packager.command import whimbrel
from whimbrel_packager.signing import keyfiles

if TYPE_CHECKING:
    from pathlib import Path

    from tests.packager.conftest import Packed
    from tests.packager.repository.conftest import Desk


@pytest.fixture
def two(desk: Desk) -> Desk:
    """A desk with two releases."""
    assert desk.publish("1.1.0").code == 0
    return desk


def test_two_releases_of_a_repository_are_compared_by_name(two: Desk) -> None:
    repo = two.repo.directory
    named = whimbrel("diff", "flights@1.0.0", "flights@1.1.0", "--repo", repo, "--json")
    assert named.code == 0, named.err
    files = whimbrel("diff", two.bundles["1.0.0"], two.bundles["1.1.0"], "--trust",
                     two.keys / "bundle.pub", "--json")  # fmt: skip
    assert json.loads(named.out) == json.loads(files.out)
    assert {json.loads(named.out)[side]["signature"] for side in ("old", "new")} == {"verified"}


def test_a_file_that_is_not_published_yet_is_compared_with_a_release(two: Desk) -> None:
    done = whimbrel("diff", "flights@1.1.0", two.bundles["1.2.0"], "--repo", two.repo.directory)
    assert done.code == 0, done.err
    assert done.out.startswith("flights  1.1.0 → 1.2.0, release 2 → 3")
    assert "NOT VERIFIED" not in done.out


def test_a_release_is_reported_and_verified_by_the_repository(
    two: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = whimbrel("report", "flights@1.1.0", "--repo", two.repo.directory)
    assert done.code == 0, done.err
    assert "verified, by key" in done.out
    page = (tmp_path / "flights-1.1.0.html").read_bytes()
    file = whimbrel("report", two.bundles["1.1.0"], "--trust", two.keys / "bundle.pub", "--out",
                    tmp_path / "file.html")  # fmt: skip
    assert file.code == 0
    assert page == (tmp_path / "file.html").read_bytes()


@pytest.mark.parametrize(
    ("name", "says", "hint"),
    [
        ("flights@3.0.0", "has no release 3.0.0 of flights", "it has 1.0.0, 1.1.0"),
        ("trains@1.0.0", "has no release 1.0.0 of trains", "its models are flights"),
        ("flights@newest", "'newest'", ""),
    ],
)
def test_a_release_that_is_not_there_is_refused_with_those_that_are(
    two: Desk, name: str, says: str, hint: str
) -> None:
    done = whimbrel("report", name, "--repo", two.repo.directory, "--out", "-")
    assert done.code in {2, 3}
    assert says in done.err
    assert hint in done.err
    assert done.out == ""


def test_without_a_repository_a_name_is_a_file(two: Desk, tmp_path: Path) -> None:
    done = whimbrel("report", "flights@1.0.0", "--out", "-")
    assert done.code == 2
    assert "there is no file flights@1.0.0" in done.err
    assert "flights@1.0.0 --repo PLACE" in done.err
    odd = tmp_path / "flights@home.whim"
    odd.write_bytes(two.bundles["1.0.0"].read_bytes())
    assert whimbrel("report", odd, "--repo", two.repo.directory, "--out", "-").code == 0


def test_bytes_or_metadata_that_nobody_signed_are_refused(two: Desk) -> None:
    repo = two.repo.directory
    (stored,) = repo.glob("targets/bundles/flights/*.flights-1.1.0.whim")
    stored.write_bytes(stored.read_bytes()[:-1] + b"!")
    done = whimbrel("report", "flights@1.1.0", "--repo", repo, "--out", "-")
    assert (done.code, done.out) == (4, "")
    assert "is not what was signed" in done.err
    newest = two.repo.metadata / f"{two.repo.newest('targets')}.targets.json"
    newest.write_bytes(newest.read_bytes().replace(b'"1.0.0"', b'"1.0.9"'))
    done = whimbrel("report", "flights@1.0.9", "--repo", repo, "--out", "-")
    assert (done.code, done.out) == (4, "")


def test_a_file_that_no_publisher_signed_is_refused_beside_a_release(
    two: Desk, packed: Packed, tmp_path: Path
) -> None:
    keyfiles.create(tmp_path, "other")
    other = tmp_path / "other.whim"
    other.write_bytes(packed.again("1.3.0", 4, key=tmp_path / "other.pem"))
    words = ("diff", "flights@1.1.0", other, "--repo", two.repo.directory)
    refused = whimbrel(*words)
    assert (refused.code, refused.out) == (4, "")
    assert str(other) in refused.err
    assert whimbrel(*words, "--trust", tmp_path / "other.pub").code == 0
