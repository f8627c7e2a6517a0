"""A stick: a part of a repository that travels, with metadata that lives as long as the journey.

On a stick are all roots, the newest targets (and teams' roles) as they are, the trust files, the
chosen bundles with the deltas to them, and a snapshot and a timestamp of its own, signed by the
same online keys and valid for weeks instead of a day.

One line of versions holds both: an export takes the next version of snapshot and timestamp for the
stick, and the repository goes on with the one after. A device that met the stick first accepts the
repository later; one that has seen the repository since does not go back to the stick. The
repository's own files are written first, so that no version is ever signed twice.

What it costs: whoever has a stick can show it, until it expires, to a device that has seen nothing
newer, and so hold updates back for as long as the journey may last instead of a day. The timestamp
says when it was signed, so that devices keep a true floor under their clocks.
"""

from __future__ import annotations

import contextlib
import io
import tarfile
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tuf.api.metadata import (  # type: ignore[attr-defined]  # public by its documentation
    Metadata,
    MetaFile,
    Snapshot,
    Timestamp,
)

from whimbrel_core.errors import UnavailableError, UsageError
from whimbrel_packager import atomic
from whimbrel_packager.destinations import Directory
from whimbrel_packager.repository import trusted
from whimbrel_packager.repository.metadata import (
    TIMESTAMP,
    Lives,
    MetadataDirectory,
    file_name,
    signed_by,
)
from whimbrel_packager.repository.repository import stored

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from whimbrel_packager.repository.released import Released
    from whimbrel_packager.repository.repository import Repository
    from whimbrel_packager.signing.keyring import Keyring

_ARCHIVE = ".tar"


class Exported(NamedTuple):
    """What is on a stick.

    Attributes:
        bundles: that are on it.
        expires: when its metadata does.
        shortened: the role that expires before the journey was to end; "" for none.
        size: bytes of the files that were written.
    """

    bundles: tuple[Released, ...]
    expires: datetime
    shortened: str
    size: int


def choose(
    released: Sequence[Released], wanted: Sequence[str], classes: Sequence[str]
) -> tuple[Released, ...]:
    """Return the wanted bundles, ``name`` (its newest) or ``name-version``; none: every newest.

    Args:
        released: all of them, oldest release first.
        wanted: names.
        classes: kinds of device that the stick is for; none: any.

    Raises:
        UsageError: one is not released, or nothing is left.
    """
    fitting = [
        one
        for one in released
        if not classes or not one.device_classes or set(classes) & set(one.device_classes)
    ]
    newest = {one.name: one for one in fitting}
    titles = {f"{one.name}-{one.version}": one for one in fitting}
    for name in wanted:
        if name not in newest and name not in titles:
            raise UsageError(
                f"no bundle {name} is released" + (" for these devices" if classes else ""),
                hint=f"there are {', '.join(titles) or 'none'}",
            )
    chosen = {
        one.path: one
        for one in ([titles.get(n) or newest[n] for n in wanted] if wanted else newest.values())
    }
    if not chosen:
        raise UsageError("no bundle is released for that, so the stick would be empty")
    return tuple(chosen.values())


def export(
    repository: Repository,
    out: Path,
    bundles: Sequence[Released],
    *,
    online: Keyring,
    now: datetime,
    days: int,
    lives: Lives | None = None,
) -> Exported:
    """Write a stick: a directory, or an archive when ``out`` ends in ``.tar``.

    Args:
        repository: from which it is taken, where its online keys sign.
        out: the stick; one that was made of this repository before is brought up to date.
        bundles: what goes on it (`choose`).
        online: keys of snapshot and timestamp.
        now: the time from which validity counts.
        days: that the stick is valid.
        lives: validity of the repository's own metadata, which is signed anew.

    Raises:
        UsageError: there is something else at ``out``; it was not touched.
        UnavailableError: targets have expired.
        TrustError: the repository does not verify, or the keys are not its own.
        StorageError: the stick is full; it is what it was, or has no timestamp yet.
    """
    if out.suffix == _ARCHIVE:
        if out.exists():
            raise UsageError(f"{out} is there already; it was not touched", code="usage.exists")
        with tempfile.TemporaryDirectory(prefix="whimbrel-stick-") as scratch:
            folder = Path(scratch)
            done = export(
                repository, folder, bundles, online=online, now=now, days=days, lives=lives
            )
            atomic.write(out, _archived(folder, int(now.timestamp())))
        return done
    if not repository.in_directory:  # which has a lock: versions are given away here
        raise UsageError(
            f"{repository.where} is not a directory",
            hint="export where the repository is served from",
        )
    stick = MetadataDirectory(Directory(out))
    first = repository.destination.read("metadata/1.root.json")
    theirs = stick.destination.read("metadata/1.root.json")
    if theirs is not None and theirs != first:
        raise UsageError(
            f"{out} is a stick of another repository; it was not touched",
            hint="give another folder",
            code="usage.exists",
        )
    with repository.locked():
        root = repository.root()
        targets = repository.targets(root)
        signed: dict[str, Any] = {"root": root, "targets": targets}
        signed |= repository.delegated(targets)
        wanted = now.replace(microsecond=0) + timedelta(days=days)
        shortest = min(signed, key=lambda role: signed[role].expires)
        expires = min(wanted, signed[shortest].expires)
        if expires <= now:
            raise UnavailableError(
                f"{shortest} has expired; no stick was made",
                hint="sign it anew: whimbrel repo refresh --keys",
                code="trust.expired",
            )
        paths = [*trusted.TRUST.values()]
        paths += [p for one in bundles for p in (one.path, *(d["path"] for d in one.deltas))]
        files = {path: repository.read(path, targets) for path in paths}
        signers = repository.online_signers(root, online)
        assert signers is not None  # noqa: S101 - there is a ring
        snapshot = Snapshot(
            version=repository.newest("snapshot") + 1,
            expires=expires,
            meta=repository.named(targets, root),
        )
        timestamp = Timestamp(
            version=repository.newest("timestamp") + 1,
            expires=expires,
            snapshot_meta=MetaFile(version=snapshot.version),
            unrecognized_fields={"whimbrel": {"signed": f"{now:%Y-%m-%dT%H:%M:%SZ}"}},
        )
        travelling = {
            "snapshot": signed_by(Metadata(snapshot), signers[0], root),
            "timestamp": signed_by(Metadata(timestamp), signers[1], root),
        }
        # Its versions are spent before anybody can see them.
        repository.sign_online(
            *signers, targets, now=now, lives=lives or Lives(), root=root, skip=1
        )
        metadata = [file_name("root", version) for version in range(1, root.version + 1)]
        metadata += [file_name(role, signed[role].version) for role in signed if role != "root"]
        copied = {name: repository.destination.read(f"metadata/{name}") for name in metadata}
    for path, data in files.items():
        stick.destination.store(stored(path, _digest(path, targets, signed)), data)
    for name, one in copied.items():
        if one is not None:
            seen = stick.destination.read(f"metadata/{name}")  # it may be countersigned since
            stick.destination.replace(f"metadata/{name}", one, seen=seen)
    stick.put("snapshot", travelling["snapshot"])
    stick.put("timestamp", travelling["timestamp"], seen=stick.destination.read(TIMESTAMP))
    size = sum(map(len, files.values())) + sum(len(one or b"") for one in copied.values())
    return Exported(tuple(bundles), expires, shortest if expires < wanted else "", size)


def _digest(path: str, targets: Any, signed: dict[str, Any]) -> str:  # noqa: ANN401 - TUF's Targets
    for role in (targets, *signed.values()):
        if (target := getattr(role, "targets", {}).get(path)) is not None:
            return str(target.hashes["sha256"])
    raise AssertionError(path)


def _archived(folder: Path, seconds: int) -> bytes:
    """Return a folder as an archive whose bytes come from its content alone."""
    target = io.BytesIO()
    with contextlib.closing(tarfile.open(fileobj=target, mode="w")) as archive:
        for path in _files(folder):
            entry = tarfile.TarInfo(str(path.relative_to(folder)))
            entry.size, entry.mtime, entry.mode = path.stat().st_size, seconds, 0o644
            with path.open("rb") as file:
                archive.addfile(entry, file)
    return target.getvalue()


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".lock")
