"""A checkout of the training code: commit, branch, remote, and whether it is dirty."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.packager.record.checkouts import git, needs_git
from whimbrel_packager.record import checkout

if TYPE_CHECKING:
    from pathlib import Path


@needs_git
def test_a_checkout_is_known_by_commit_branch_and_a_remote_without_credentials(
    repository: Path,
) -> None:
    seen = checkout.read(repository)
    assert seen is not None
    assert seen.commit == git(repository, "rev-parse", "HEAD")
    assert (seen.branch, seen.dirty) == ("main", False)
    assert seen.remote == "https://code.example/team/models.git"


@needs_git
def test_a_checkout_is_dirty_when_a_tracked_file_differs_and_not_for_a_new_one(
    repository: Path,
) -> None:
    (repository / "model.skops").write_bytes(b"made here")
    assert checkout.read(repository) is not None
    assert not checkout.read(repository).dirty  # type: ignore[union-attr]
    (repository / "train.py").write_text("fit(more)\n")
    assert checkout.read(repository).dirty  # type: ignore[union-attr]


@needs_git
def test_a_repository_cannot_make_git_run_its_programs(repository: Path, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {trap}\n")
    program.chmod(0o755)
    git(repository, "config", "core.fsmonitor", str(program))
    assert checkout.read(repository) is not None
    assert not trap.exists()


@needs_git
def test_reading_a_checkout_follows_no_variable_to_another_repository(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nowhere"))
    assert checkout.read(repository) is not None


@needs_git
def test_a_folder_without_commits_or_without_repository_is_unknown(tmp_path: Path) -> None:
    assert checkout.read(tmp_path) is None
    git(tmp_path, "init", "-q")
    assert checkout.read(tmp_path) is None
    assert checkout.read(tmp_path / "missing") is None


def test_without_git_nothing_is_known_and_nothing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert checkout.read(tmp_path) is None


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("https://me:secret@h.example/a.git", "https://h.example/a.git"),
        ("https://token@h.example:8443/a.git?x=1#y", "https://h.example:8443/a.git"),
        ("git@h.example:team/a.git", "ssh://git@h.example/team/a.git"),
        ("me@h.example:/srv/a.git", "ssh://h.example/srv/a.git"),
        ("ssh://git@h.example:22/a", "ssh://git@h.example:22/a"),
        ("ssh://git:secret@h.example/a", "ssh://h.example/a"),
        ("https://[::1]:80/a", "https://[::1]:80/a"),
        ("/srv/a.git", ""),
        ("file:///srv/a.git", ""),
        ("../a.git", ""),
        ("C:\\code\\a", ""),
        ("https://[broken/a", ""),
        ("", ""),
    ],
)
def test_the_url_of_a_repository_shows_no_credentials_and_no_folder(given: str, shown: str) -> None:
    assert checkout.public_url(given) == shown
