"""The two roles that the server signs: snapshot and timestamp.

Whoever holds their keys can say "this is the newest", and never what a bundle is.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import (  # type: ignore[attr-defined]  # public by its documentation
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    Timestamp,
)

from whimbrel_core.errors import StorageError, TrustError
from whimbrel_server.repository import chain

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined]  # not listed


class _Current(NamedTuple):
    """A role as it is signed; ``holds``: by the keys that the newest root names."""

    signed: Any
    holds: bool


class OnlineRoles:
    """Signs snapshot and timestamp, so that devices see new targets and fresh metadata.

    Args:
        directory: the repository.
        snapshot: signer of snapshot; ``timestamp``: signer of timestamp.
        snapshot_life: how long a snapshot is valid; ``timestamp_life``: likewise.
    """

    def __init__(
        self,
        directory: Path,
        snapshot: CryptoSigner,
        timestamp: CryptoSigner,
        *,
        snapshot_life: timedelta = timedelta(days=7),
        timestamp_life: timedelta = timedelta(days=1),
    ) -> None:
        self._directory = directory
        self._snapshot, self._timestamp = snapshot, timestamp
        self._snapshot_life, self._timestamp_life = snapshot_life, timestamp_life

    def refresh(self, now: datetime) -> tuple[str, ...]:
        """Sign what is due and return the files that were written.

        A new snapshot is due when there are newer targets (or a team's) than it names, when half
        of its life is over, or when a new root names another key for it; a new timestamp likewise,
        and when there is a new snapshot. Each file is complete before the next one names it, so a
        crash in between leaves the old state.

        Raises:
            TrustError: the newest targets do not verify, or the keys here are not those that root
                names; nothing was signed.
            StorageError: a file cannot be written.
        """
        # Looking needs no lock, and must not take it: publishers do not wait for it.
        if not self._due(now):
            return ()
        with self._lock() as held:
            # A publisher is at work: it signs what it changes, or we do at the next look.
            return self._refresh(now) if held else ()

    def _due(self, now: datetime) -> bool:
        roots = chain.verified_roots(self._directory)
        snapshot = self._current(roots, "snapshot", Snapshot)
        return self._snapshot_due(roots[-1], snapshot, now) or self._timestamp_due(
            self._current(roots, "timestamp", Timestamp), snapshot, now
        )

    def _snapshot_due(self, root: Root, snapshot: _Current, now: datetime) -> bool:
        signed = snapshot.signed
        return (
            signed is None
            or not snapshot.holds
            or signed.meta != self._named(root, signed)
            or signed.expires - now < self._snapshot_life / 2
        )

    def _timestamp_due(self, timestamp: _Current, snapshot: _Current, now: datetime) -> bool:
        signed = timestamp.signed
        return (
            signed is None
            or not timestamp.holds
            or snapshot.signed is None
            or signed.snapshot_meta.version != snapshot.signed.version
            or signed.expires - now < self._timestamp_life / 2
        )

    def _named(self, root: Root, last: Snapshot | None) -> dict[str, MetaFile]:
        """Return what a snapshot has to name: what the last one did, and what is newer.

        A role that was named once stays: devices refuse a snapshot that lacks one.
        """
        targets = chain.verified_targets(self._directory, root)
        teams = chain.verified_teams(self._directory, targets)
        named = {
            f"{role}.json": MetaFile(version=one.version)
            for role, one in {"targets": targets, **teams}.items()
        }
        return {**(last.meta if last is not None else {}), **named}

    @contextmanager
    def _lock(self) -> Iterator[bool]:
        """Yield whether the repository's lock was to be had; publishers take the same one."""
        try:
            descriptor = os.open(self._directory / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise StorageError(
                f"the repository {self._directory} cannot be written: {error}",
                hint="correct its permissions; the server signs snapshot and timestamp there",
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield True
        except BlockingIOError:
            yield False
        finally:
            os.close(descriptor)

    def _refresh(self, now: datetime) -> tuple[str, ...]:
        roots = chain.verified_roots(self._directory)
        root = roots[-1]
        written = []
        snapshot = self._current(roots, "snapshot", Snapshot)
        renewed = self._snapshot_due(root, snapshot, now)
        if renewed:
            new = Snapshot(
                version=chain.newest(self._directory, "snapshot") + 1,
                expires=_second(now + self._snapshot_life),
                meta=self._named(root, snapshot.signed),
            )
            written.append(f"{new.version}.snapshot.json")
            self._write(root, "snapshot", written[-1], Metadata(new), self._snapshot)
            snapshot = _Current(new, holds=True)
        timestamp = self._current(roots, "timestamp", Timestamp)
        if snapshot.signed is not None and self._timestamp_due(timestamp, snapshot, now):
            stamp = Timestamp(
                version=1 if timestamp.signed is None else timestamp.signed.version + 1,
                expires=_second(now + self._timestamp_life),
                snapshot_meta=MetaFile(version=snapshot.signed.version),
            )
            written.append("timestamp.json")
            self._write(root, "timestamp", written[-1], Metadata(stamp), self._timestamp)
        return tuple(written)

    def _current(self, roots: list[Root], role: str, kind: type[Any]) -> _Current:
        """Return a role's metadata, by the newest root or, its keys having changed, by an older."""
        name = f"{chain.newest(self._directory, role)}.{role}.json"
        file = self._directory / "metadata" / ("timestamp.json" if role == "timestamp" else name)
        if not file.is_file():
            return _Current(None, holds=False)
        data = chain.read(file)
        refused: TrustError | None = None
        for root in reversed(roots):
            try:
                signed = chain.verify(root, role, data, kind)
            except TrustError as error:
                refused = refused or error
            else:
                return _Current(signed, holds=root is roots[-1])
        assert refused is not None  # noqa: S101 - there is at least one root
        raise refused

    def _write(
        self, root: Root, role: str, name: str, metadata: Metadata[Any], signer: CryptoSigner
    ) -> None:
        metadata.sign(signer)
        try:
            root.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
        except RepositoryError as error:
            raise TrustError(
                f"the {role} key of this server is not the one that root version {root.version} "
                f"names ({error}); {name} was not signed, and devices keep what they have",
                hint=f"put the new {role}.pem into the folder of online keys, and restart",
                code="trust.role",
            ) from error
        file = self._directory / "metadata" / name
        partial = file.with_name(f".{name}.{os.getpid()}.part")
        try:
            with partial.open("wb") as out:
                out.write(metadata.to_bytes())
                out.flush()
                os.fsync(out.fileno())
            partial.replace(file)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise StorageError(
                f"{file} cannot be written: {error}; devices keep the old metadata",
                hint="free space, or correct the permissions of the repository",
            ) from error


def _second(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(microsecond=0)
