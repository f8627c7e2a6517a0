"""Several people hold a role: nothing is published before enough of them have signed."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from tests.packager.command import Done, whimbrel
from tests.packager.repository.conftest import Desk, Device
from whimbrel_core.errors import UsageError
from whimbrel_packager.repository.repository import Repository
from whimbrel_packager.signing import keyfiles

if TYPE_CHECKING:
    from pathlib import Path

    from tests.packager.conftest import Packed

FIRST = "bundles/flights/flights-1.0.0.whim"
SECOND = "bundles/flights/flights-1.1.0.whim"


@pytest.fixture
def people(tmp_path: Path) -> dict[str, Path]:
    """Private keys of three people, with their public halves beside them."""
    return {
        name: keyfiles.create(tmp_path / "people", name)[1] for name in ("alice", "bob", "carol")
    }


def raise_threshold(desk: Desk, people: dict[str, Path], role: str) -> None:
    """Give a role to the desk's key, Alice and Bob; two of the three sign from now on."""
    for name, more in (("alice", ()), ("bob", ("--threshold", 2, "--key", people["alice"]))):
        done = desk.repo_command("add-key", role, "--new", people[name].with_suffix(".pub"), *more)
        assert done.code == 0, done.err
        assert "published" in done.out


def sign(repository: Path, *words: object) -> Done:
    return whimbrel("repo", "sign", "--dir", repository, *words)


def test_a_repository_is_founded_by_two_of_three(
    people: dict[str, Path], packed: Packed, tmp_path: Path
) -> None:
    repo, keys, online = (tmp_path / name for name in ("repo", "keys", "online"))
    holders = [w for p in people.values() for w in ("--root-key", p.with_suffix(".pub"))]
    done = whimbrel("repo", "init", "--dir", repo, "--keys", keys, "--online-keys", online,
                    *holders, "--threshold-root", 2)  # fmt: skip
    assert done.code == 0, done.err
    assert "is not one yet" in done.out
    assert not (keys / "root.pem").exists()
    with pytest.raises(UsageError, match="is no repository"):
        Repository(repo).root()
    first = sign(repo, "--key", people["alice"])
    assert "1 of 2 signatures" in first.out
    shown = whimbrel("repo", "show", "--dir", repo).out
    assert "waits for signatures: found a repository" in shown
    assert "root: 2 sign" in shown
    second = sign(repo, "--key", people["carol"])
    assert second.code == 0, second.err
    assert "1.root.json" in second.out
    device = Device(tmp_path / "device", (repo / "metadata" / "1.root.json").read_bytes())
    assert device.update(repo).trust_changed
    assert not (repo / "staged" / "change.json").exists()


def test_one_of_two_publishes_nothing_and_the_second_elsewhere_completes_it(
    desk: Desk, device: Device, people: dict[str, Path], tmp_path: Path
) -> None:
    raise_threshold(desk, people, "targets")
    done = desk.publish("1.1.0")
    assert done.code == 0, done.err
    assert "staged: flights 1.1.0" in done.out
    assert not device.sees(desk.repo.directory, SECOND)
    shown = json.loads(whimbrel("repo", "show", "--dir", desk.repo.directory, "--json").out)
    assert shown["staged"]["lacking"]["targets"]["have"] == 1
    assert f"adds {SECOND}" in whimbrel("repo", "show", "--dir", desk.repo.directory).out
    # Bob has a copy; what comes back is one file.
    copy = shutil.copytree(desk.repo.directory, tmp_path / "bobs")
    held = sign(copy, "--key", people["bob"], "--hold")
    assert held.code == 0, held.err
    merged = sign(desk.repo.directory, "--merge", copy / "staged", "--online-keys", desk.online)
    assert merged.code == 0, merged.err
    assert "published: publish flights-1.1.0" in merged.out
    assert device.sees(desk.repo.directory, SECOND)
    assert device.update(desk.repo.directory, desk.bundles["1.1.0"], version="1.1.0").release == 2


def test_a_root_of_two_is_exchanged_by_old_and_new_together(
    desk: Desk, device: Device, people: dict[str, Path]
) -> None:
    raise_threshold(desk, people, "root")
    assert device.sees(desk.repo.directory, FIRST)
    old = desk.keys / "root.pub"
    words = ("rotate", "root", "--old", old, "--new", people["carol"].with_suffix(".pub"))
    (desk.keys / "root.pem").rename(desk.folder / "root.pem")
    done = desk.repo_command(*words, "--key", people["alice"])
    assert "staged" in done.out
    sole = sign(desk.repo.directory, "--key", people["carol"])
    assert "1 of 2 signatures" in sole.out  # the new root is content, the old is not
    assert desk.repo.root().version == 3
    last = sign(desk.repo.directory, "--key", people["bob"])
    assert "published" in last.out
    assert desk.repo.root().version == 4
    assert device.sees(desk.repo.directory, FIRST)


def test_a_threshold_of_targets_is_raised_with_the_signatures_it_asks_for(
    desk: Desk, device: Device, people: dict[str, Path]
) -> None:
    done = desk.repo_command("add-key", "targets", "--new", people["alice"].with_suffix(".pub"),
                             "--threshold", 2)  # fmt: skip
    assert "staged" in done.out
    assert (
        "targets version 2 is countersigned"
        in whimbrel("repo", "show", "--dir", desk.repo.directory).out
    )
    assert device.sees(desk.repo.directory, FIRST)
    done = sign(desk.repo.directory, "--key", people["alice"])
    assert "published" in done.out
    assert device.sees(desk.repo.directory, FIRST)


def test_whoever_holds_no_key_of_it_signs_nothing(desk: Desk, people: dict[str, Path]) -> None:
    raise_threshold(desk, people, "targets")
    desk.publish("1.1.0")
    done = sign(desk.repo.directory, "--key", people["carol"])
    assert done.code == 2
    assert "none of the given keys has anything to sign" in done.err
    again = sign(desk.repo.directory, "--keys", desk.keys)  # one key is one signature
    assert again.code == 2


def test_a_staged_change_is_thrown_away_or_finished_before_the_next(
    desk: Desk, people: dict[str, Path]
) -> None:
    raise_threshold(desk, people, "targets")
    desk.publish("1.1.0")
    for done in (desk.publish("1.2.0"), desk.repo_command("refresh")):
        assert done.code == 2
        assert "a change waits for signatures: publish flights-1.1.0" in done.err
    assert whimbrel("repo", "discard", "--dir", desk.repo.directory).code == 0
    assert whimbrel("repo", "discard", "--dir", desk.repo.directory).code == 2
    assert "staged" in desk.publish("1.2.0").out


def test_a_change_that_was_overtaken_is_not_published(
    desk: Desk, people: dict[str, Path], tmp_path: Path
) -> None:
    raise_threshold(desk, people, "targets")
    desk.publish("1.1.0")
    old = shutil.copytree(desk.repo.directory / "staged", tmp_path / "old")
    assert sign(desk.repo.directory, "--key", people["alice"]).code == 0
    shutil.copytree(old, desk.repo.directory / "staged", dirs_exist_ok=True)
    # What is published already is published once more, without harm.
    assert sign(desk.repo.directory, "--key", people["bob"]).code == 0
    desk.publish("1.2.0")
    assert sign(desk.repo.directory, "--key", people["alice"]).code == 0
    shutil.copytree(old, desk.repo.directory / "staged", dirs_exist_ok=True)
    done = sign(desk.repo.directory, "--key", people["bob"])
    assert done.code == 4
    assert "something else was published since" in done.err


@pytest.mark.parametrize("spoiled", ["{", "[]", '{"note": 1, "metadata": {"root": {}}}'])
def test_a_staged_file_that_is_none_is_refused(desk: Desk, spoiled: str) -> None:
    (desk.repo.directory / "staged").mkdir()
    (desk.repo.directory / "staged/change.json").write_text(spoiled)
    done = sign(desk.repo.directory, "--keys", desk.keys)
    assert done.code == 4
    assert "is no staged change" in done.err
    assert whimbrel("repo", "discard", "--dir", desk.repo.directory).code == 0


def test_signatures_of_another_change_are_not_taken_over(
    desk: Desk, people: dict[str, Path], tmp_path: Path
) -> None:
    raise_threshold(desk, people, "targets")
    desk.publish("1.1.0")
    other = shutil.copytree(desk.repo.directory, tmp_path / "other")
    whimbrel("repo", "discard", "--dir", other)
    whimbrel("publish", desk.bundles["1.2.0"], "--repo", other, "--keys", desk.keys)
    done = sign(desk.repo.directory, "--merge", other / "staged/change.json")
    assert done.code == 4
    assert "is another change" in done.err
    assert datetime.now(UTC) < desk.repo.targets().expires
