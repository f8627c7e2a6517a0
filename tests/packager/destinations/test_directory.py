"""Publishing to a directory, killed in the middle and by two at once: real processes."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from tests.packager.destinations.conftest import Publisher, seen
from tests.support import interrupted
from whimbrel_packager.destinations import ConflictError, Directory, destination
from whimbrel_packager.repository import publishing
from whimbrel_packager.repository.repository import Repository

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def directory(publisher: Publisher, tmp_path: Path) -> Path:
    shutil.copytree(publisher.house.repository.directory, tmp_path / "repository")
    return tmp_path / "repository"


def words(publisher: Publisher, directory: Path, version: str) -> tuple[object, ...]:
    return ("publish", publisher.path(version), "--to", directory, "--keys", publisher.keys,
            "--online-keys", publisher.online)  # fmt: skip


# Of each of bundle, targets, snapshot and timestamp: its bytes, its name, its folder.
@pytest.mark.parametrize("at", [1, 4, 7, 10, 11])
def test_a_publisher_that_is_killed_leaves_the_old_state_or_the_new_one(
    publisher: Publisher, directory: Path, tmp_path: Path, at: int
) -> None:
    assert interrupted.run(at, *words(publisher, directory, "1.0.0")) == -signal.SIGKILL
    visible = {"1.0.0"} if at > 10 else set()
    assert seen(Directory(directory), tmp_path / "between") == visible
    done = publishing.publish(
        Repository(directory),
        publisher.path("1.0.0"),
        publisher.keys,
        online=publisher.online,
        now=datetime.now(UTC),
    )
    assert not done.waiting
    assert seen(Directory(directory), tmp_path / "after") == {"1.0.0"}


def test_of_two_publishers_at_once_none_harms_the_other(
    publisher: Publisher, directory: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "whimbrel_core.cli"]
    running = {
        version: subprocess.Popen(
            [*command, *map(str, words(publisher, directory, version))],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for version in ("1.0.0", "1.1.0")
    }
    said = {version: process.communicate()[0] for version, process in running.items()}
    published = {version for version, process in running.items() if process.returncode == 0}
    assert published, said
    for version in {"1.0.0", "1.1.0"} - published:
        # Locked out, or overtaken by a newer release.
        assert running[version].returncode in {2, 5}, said
    assert seen(Directory(directory), tmp_path / "device") == published
    assert not Repository(directory).status().waiting


def test_a_version_is_written_once_and_a_damaged_file_is_repaired(tmp_path: Path) -> None:
    place = destination(f"file://{tmp_path}")
    place.create("metadata/1.targets.json", b"one")
    place.create("metadata/1.targets.json", b"one")
    with pytest.raises(ConflictError, match="it was not touched"):
        place.create("metadata/1.targets.json", b"two")
    place.store("targets/a/b", b"whole")
    (tmp_path / "targets" / "a" / "b").write_bytes(b"dam")
    place.store("targets/a/b", b"whole")
    assert place.read("targets/a/b") == b"whole"
    assert place.names("metadata") == ["1.targets.json"]
    assert place.names("nothing") == []
    with pytest.raises(ConflictError):
        place.replace("metadata/timestamp.json", b"new", seen=b"old")
