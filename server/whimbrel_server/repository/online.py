"""The two roles that the server signs: snapshot and timestamp.

Whoever holds their keys can say "this is the newest", and never what a bundle is.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

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

        A new snapshot is due when there are newer targets than it names or half of its life is
        over; a new timestamp when there is a new snapshot or half of its life is over. Each file
        is complete before the next one names it, so a crash in between leaves the old state.

        Raises:
            TrustError: the newest targets do not verify; nothing was signed.
            StorageError: a file cannot be written.
        """
        # Looking needs no lock, and must not take it: publishers do not wait for it.
        if not self._due(now):
            return ()
        with self._lock() as held:
            # A publisher is at work: it signs what it changes, or we do at the next look.
            return self._refresh(now) if held else ()

    def _due(self, now: datetime) -> bool:
        root = chain.verified_root(self._directory)
        snapshot = self._current(root, "snapshot", Snapshot)
        return self._snapshot_due(snapshot, now) or self._timestamp_due(
            self._current(root, "timestamp", Timestamp), snapshot, now
        )

    def _snapshot_due(self, snapshot: Snapshot | None, now: datetime) -> bool:
        return (
            snapshot is None
            or snapshot.meta["targets.json"].version != chain.newest(self._directory, "targets")
            or snapshot.expires - now < self._snapshot_life / 2
        )

    def _timestamp_due(
        self, timestamp: Timestamp | None, snapshot: Snapshot, now: datetime
    ) -> bool:
        return (
            timestamp is None
            or timestamp.snapshot_meta.version != snapshot.version
            or timestamp.expires - now < self._timestamp_life / 2
        )

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
        root = chain.verified_root(self._directory)
        targets = chain.verified_targets(self._directory, root)
        named = chain.newest(self._directory, "targets")
        if targets.version != named:
            raise TrustError(f"{named}.targets.json is version {targets.version}")
        written = []
        snapshot = self._current(root, "snapshot", Snapshot)
        renewed = self._snapshot_due(snapshot, now)
        if renewed:
            snapshot = Snapshot(
                version=chain.newest(self._directory, "snapshot") + 1,
                expires=_second(now + self._snapshot_life),
                meta={"targets.json": MetaFile(version=targets.version)},
            )
            written.append(f"{snapshot.version}.snapshot.json")
            self._write(written[-1], Metadata(snapshot), self._snapshot)
        timestamp = self._current(root, "timestamp", Timestamp)
        if renewed or self._timestamp_due(timestamp, snapshot, now):
            new = Timestamp(
                version=1 if timestamp is None else timestamp.version + 1,
                expires=_second(now + self._timestamp_life),
                snapshot_meta=MetaFile(version=snapshot.version),
            )
            written.append("timestamp.json")
            self._write(written[-1], Metadata(new), self._timestamp)
        return tuple(written)

    def _current(self, root: Root, role: str, kind: type[Any]) -> Any:  # noqa: ANN401 - of that kind, or None
        name = f"{chain.newest(self._directory, role)}.{role}.json"
        file = self._directory / "metadata" / ("timestamp.json" if role == "timestamp" else name)
        if not file.is_file():
            return None
        return chain.verify(root, role, chain.read(file), kind)

    def _write(self, name: str, metadata: Metadata[Any], signer: CryptoSigner) -> None:
        metadata.sign(signer)
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
