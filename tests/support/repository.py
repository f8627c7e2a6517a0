"""A publisher and a fleet server's signing side in a folder, made with `tuf.api.metadata` alone.

The layout is that of a real repository: consistent snapshots, trust targets, blobs by digest.
"""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING, Any

import zstandard
from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined]
from tuf.api.metadata import (  # type: ignore[attr-defined]
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from whimbrel_core.signing.keys import PrivateKey
from whimbrel_core.wire.assignment import Assignment, Probation, SlotAssignment, sign

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.models import MadeBundle

DAY = dt.timedelta(days=1)


class RepositorySimulator:
    """Publishes bundles into ``folder`` and signs assignments.

    Args:
        folder: the repository's directory.
        publisher: the key that bundles are signed with.
    """

    def __init__(self, folder: Path, publisher: PrivateKey) -> None:
        self.folder = folder
        self.publisher = publisher
        self.fleet = PrivateKey.generate()
        self._signers = {
            role: CryptoSigner.generate_ecdsa()
            for role in ("root", "targets", "snapshot", "timestamp")
        }
        later = dt.datetime.now(dt.timezone.utc).replace(microsecond=0)
        self._root = Root(expires=later + 365 * DAY, consistent_snapshot=True)
        for role, signer in self._signers.items():
            self._root.add_key(signer.public_key, role)
        self._targets = Targets(version=1, expires=later + 90 * DAY)
        self._snapshot = Snapshot(version=1, expires=later + 7 * DAY)
        self._timestamp = Timestamp(version=1, expires=later + DAY)
        (folder / "metadata").mkdir(parents=True)
        self._write("root", self._root, "1.root.json")
        self.trust()

    @property
    def root_json(self) -> bytes:
        """What a device is enrolled with."""
        return (self.folder / "metadata" / "1.root.json").read_bytes()

    def trust(
        self,
        *,
        publishers: list[dict[str, Any]] | None = None,
        fleet: list[PrivateKey] | None = None,
    ) -> None:
        """Publish whom devices trust."""
        keys = publishers or [{"pem": self.publisher.public.pem, "models": ["*"]}]
        self._add("trust/publishers.json", json.dumps({"keys": keys}).encode())
        pems = [{"pem": key.public.pem} for key in fleet or [self.fleet]]
        self._add("trust/fleet.json", json.dumps({"keys": pems}).encode())
        self.sign()

    def publish(
        self,
        made: MadeBundle,
        *,
        delta_from: MadeBundle | None = None,
        release: int | None = None,
        device_classes: tuple[str, ...] = (),
        spoil_delta: bool = False,
    ) -> str:
        """Publish a bundle, and a delta to it; return its target path."""
        manifest = made.manifest
        deltas = []
        if delta_from is not None:
            path = (
                f"deltas/{manifest.name}/{manifest.name}-"
                f"{delta_from.manifest.version}-{manifest.version}.zst"
            )
            old = delta_from.path.read_bytes()
            data = zstandard.ZstdCompressor(
                level=12,
                dict_data=zstandard.ZstdCompressionDict(
                    old, dict_type=zstandard.DICT_TYPE_RAWCONTENT
                ),
            ).compress(made.path.read_bytes() if not spoil_delta else old[::-1])
            self._add(path, data)
            deltas.append({"from": delta_from.digest, "path": path})
        path = f"bundles/{manifest.name}/{manifest.title}.whim"
        custom = {
            "name": manifest.name,
            "version": manifest.version,
            "release": manifest.release if release is None else release,
            "profile_id": manifest.profile_id,
            "device_classes": list(device_classes),
            "deltas": deltas,
        }
        self._add(path, made.path.read_bytes(), {"whimbrel": custom})
        self.sign()
        return path

    def blob(self, path: str) -> Path:
        """Return where the bytes of a target are."""
        folder, _, name = path.rpartition("/")
        digest = self._targets.targets[path].hashes["sha256"]
        return self.folder / "targets" / folder / f"{digest}.{name}"

    def expire(self, role: str = "timestamp", by: dt.timedelta = DAY) -> None:
        """Sign metadata that has expired."""
        signed = {"timestamp": self._timestamp, "snapshot": self._snapshot}[role]
        signed.expires = dt.datetime.now(dt.timezone.utc).replace(microsecond=0) - by
        self.sign()

    def renew(self) -> None:
        """Sign metadata that is valid again."""
        now = dt.datetime.now(dt.timezone.utc).replace(microsecond=0)
        self._timestamp.expires = now + DAY
        self._snapshot.expires = now + 7 * DAY
        self.sign()

    def sign(self) -> None:
        """Write the next version of targets, snapshot and timestamp."""
        for signed in (self._targets, self._snapshot, self._timestamp):
            signed.version += 1
        self._write("targets", self._targets, f"{self._targets.version}.targets.json")
        self._snapshot.meta["targets.json"] = MetaFile(self._targets.version)
        self._write("snapshot", self._snapshot, f"{self._snapshot.version}.snapshot.json")
        self._timestamp.snapshot_meta = MetaFile(self._snapshot.version)
        self._write("timestamp", self._timestamp, "timestamp.json")

    def assignment(
        self,
        device: str,
        revision: int,
        slots: dict[str, MadeBundle],
        *,
        probation: Probation | None = None,
        key: PrivateKey | None = None,
    ) -> bytes:
        """Return the signed desired document that puts bundles into slots."""
        assigned = {
            slot: SlotAssignment(
                path=f"bundles/{made.manifest.name}/{made.manifest.title}.whim",
                digest=made.digest,
                length=made.path.stat().st_size,
                probation=probation or Probation(rows=0, labels=0),
            )
            for slot, made in slots.items()
        }
        return sign(Assignment(device, revision, assigned), key or self.fleet)

    def _add(self, path: str, data: bytes, custom: dict[str, Any] | None = None) -> None:
        target = TargetFile.from_data(path, data, ["sha256"])
        if custom:
            target.unrecognized_fields["custom"] = custom
        self._targets.targets[path] = target
        file = self.blob(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)

    def _write(self, role: str, signed: Any, name: str) -> None:  # noqa: ANN401 - any role
        metadata = Metadata(signed)
        metadata.sign(self._signers[role])
        metadata.to_file(str(self.folder / "metadata" / name))
