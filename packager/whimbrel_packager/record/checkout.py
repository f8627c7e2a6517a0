"""The checkout that the training code lies in: its commit, as git says it. It is only read.

Git must not run what a foreign folder tells it to, nor write an index there: hooks and monitors are
off, and locks are not taken. Where there is no git or no repository, nothing is known.
"""

from __future__ import annotations

import os
import re
import subprocess
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit, urlunsplit

if TYPE_CHECKING:
    from pathlib import Path

_TIMEOUT_S = 20
# host:path, as `git clone` takes it for ssh.
_SCP = re.compile(r"^(?:(?P<user>[\w.-]+)@)?(?P<host>[\w.-]{2,}):(?!//)/?(?P<path>.+)$")


class Checkout(NamedTuple):
    """One state of a repository.

    Args:
        root: folder of the checkout.
        commit: hexadecimal id.
        branch: "" when none is checked out.
        remote: URL of the remote repository without credentials; "" when there is none.
        dirty: whether a tracked file differs from the commit.
    """

    root: str
    commit: str
    branch: str
    remote: str
    dirty: bool


def read(folder: Path) -> Checkout | None:
    """Return the state of the repository that holds a folder, or None."""
    found = _git(folder, "rev-parse", "--show-toplevel", "HEAD")
    if found is None or len(found.splitlines()) != 2:  # noqa: PLR2004 - what was asked
        return None
    root, commit = found.splitlines()
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    if changes is None:
        return None
    branch = _git(folder, "symbolic-ref", "--short", "-q", "HEAD") or ""
    return Checkout(root, commit, branch.strip(), public_url(_remote(folder)), bool(changes))


def tracked(file: Path) -> bool:
    """Return whether a file belongs to a repository, and does not merely lie in it."""
    return _git(file.parent, "ls-files", "--error-unmatch", "--", file.name) is not None


def public_url(url: str) -> str:
    """Return a repository's URL without user, password, query and fragment; "" for a local one.

    >>> public_url("https://me:secret@code.example/team/models.git?token=1")
    'https://code.example/team/models.git'
    >>> public_url("git@code.example:team/models.git")
    'ssh://git@code.example/team/models.git'
    """
    if found := _SCP.match(url):
        user = "git@" if found["user"] == "git" else ""
        return f"ssh://{user}{found['host']}/{found['path']}"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return ""
    if parts.scheme not in {"http", "https", "ssh", "git"} or not host:
        return ""
    # `git@` is nobody's name: ssh needs it to reach most hosts.
    user = (
        "git@"
        if parts.scheme == "ssh" and (parts.username, parts.password) == ("git", None)
        else ""
    )
    host = f"[{host}]" if ":" in host else host
    return urlunsplit(
        (parts.scheme, f"{user}{host}" + (f":{port}" if port else ""), parts.path, "", "")
    )


def _remote(folder: Path) -> str:
    names = (_git(folder, "remote") or "").split()
    if not names:
        return ""
    name = "origin" if "origin" in names else names[0]
    return (_git(folder, "config", "--get", f"remote.{name}.url") or "").strip()


def _git(folder: Path, *words: str) -> str | None:
    """Return what a git command prints, or None when it fails."""
    # A hook's GIT_DIR would lead to another repository than the folder's.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    kept |= {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    if ceiling := os.environ.get("GIT_CEILING_DIRECTORIES"):
        kept["GIT_CEILING_DIRECTORIES"] = ceiling
    quiet = ("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null")
    try:
        done = subprocess.run(
            ["git", *quiet, *words],  # noqa: S607 - whichever git the training used
            cwd=folder,
            env=kept,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None
