"""The data directory of one device: which file is where, and how one is replaced whole.

::

    agent.db                       outbox, slots, quarantine, meta (SQLite, WAL)
    trust/root.json                the root of trust; publishers.json and fleet.json follow from it
    tuf/                           metadata of the repository as last verified
    store/<sha256>.whim            bundles that were proven on this device
    downloads/<sha256>.part|.whim  on their way; checked but not yet proven
    profiles/  labels/             open windows and predictions (the worker's)
    run/                           admin.sock, telemetry.sock, http.json, worker.json, lock, downloaded
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from whimbrel_core.errors import StorageError


class DataDirectory:
    """Paths under one data directory; `create` makes the folders, private to their owner."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        self.database = self.root / "agent.db"
        self.trust = self.root / "trust"
        self.tuf = self.root / "tuf"
        self.store = self.root / "store"
        self.downloads = self.root / "downloads"
        self.profiles = self.root / "profiles"
        self.labels = self.root / "labels"
        self.run = self.root / "run"
        self.root_json = self.trust / "root.json"
        self.publishers_json = self.trust / "publishers.json"
        self.fleet_json = self.trust / "fleet.json"
        self.admin_socket = self.run / "admin.sock"
        self.telemetry_socket = self.run / "telemetry.sock"
        self.http_json = self.run / "http.json"
        self.worker_json = self.run / "worker.json"
        self.lock = self.run / "lock"
        self.tally = self.run / "downloaded"

    def create(self) -> None:
        """Make every folder that is missing.

        Raises:
            StorageError: one cannot be made.
        """
        try:
            for folder in (
                self.root,
                self.trust,
                self.tuf,
                self.store,
                self.downloads,
                self.profiles,
                self.labels,
                self.run,
            ):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            msg = f"data directory {self.root} cannot be made: {error}"
            raise StorageError(msg, hint="check its owner and the disk") from error

    def bundle(self, digest: str) -> Path:
        """Return where the proven bundle ``digest`` is kept."""
        return self.store / f"{digest}.whim"

    def fetched(self, digest: str) -> Path:
        """Return where the fetched and checked, but not yet proven, bundle is."""
        return self.downloads / f"{digest}.whim"

    def part(self, digest: str) -> Path:
        """Return where the bytes of ``digest`` are gathered."""
        return self.downloads / f"{digest}.part"

    def candidate(self, digest: str) -> Path:
        """Return the bundle's file wherever it is: proven or only fetched."""
        proven = self.bundle(digest)
        return proven if proven.exists() else self.fetched(digest)


def replace_file(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Write ``data`` to ``path`` so that a crash leaves the old or the new file whole.

    Raises:
        OSError: the disk refuses; the old file is as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:  # whatever ends it: leave no half file
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames inside ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
