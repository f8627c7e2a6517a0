"""A stick carries chosen bundles for weeks, and never gets the better of the repository."""

from __future__ import annotations

import shutil
import tarfile
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from tests.packager.command import Done, whimbrel
from tests.packager.repository.conftest import Desk, Device
from tests.packager.test_repository import seen_versions
from tests.support.founded import founded
from whimbrel_core.errors import (
    CompatibilityError,
    StorageError,
    TrustError,
    UnavailableError,
)
from whimbrel_packager import atomic
from whimbrel_packager.repository import stick
from whimbrel_packager.signing.keyring import Keyring

if TYPE_CHECKING:
    from pathlib import Path

    from tests.packager.conftest import Packed

NOW = datetime.now(UTC)
DAY = timedelta(days=1)


def export(desk: Desk, out: Path, *words: object) -> Done:
    return whimbrel("repo", "export", "--dir", desk.repo.directory, "--out", out, "--online-keys",
                    desk.online, *words)  # fmt: skip


def enrolled(desk: Desk, home: Path) -> Device:
    return Device(home, (desk.repo.metadata / "1.root.json").read_bytes())


def exported_in_the_past(desk: Desk, out: Path, ago: timedelta, days: int = 30) -> None:
    """Write a stick as it was written some time ago."""
    stick.export(
        desk.repo,
        out,
        desk.repo.released(),
        online=Keyring(folders=[desk.online]),
        now=NOW - ago,
        days=days,
    )


def test_a_device_without_a_network_installs_from_a_stick(desk: Desk, tmp_path: Path) -> None:
    desk.publish("1.1.0")
    done = export(desk, tmp_path / "stick")
    assert done.code == 0, done.err
    assert "1 bundles" in done.out
    assert "flights 1.1.0, release 2" in done.out
    device = enrolled(desk, tmp_path / "device")
    brought = device.update(tmp_path / "stick", desk.bundles["1.1.0"], version="1.1.0")
    assert (brought.source, brought.release) == ("full", 2)
    assert device.home.publishers_json.exists()
    assert device.home.fleet_json.exists()
    # What is released and was not taken along is said to be missing, not to be untrusted.
    with pytest.raises(UnavailableError):
        device.update(tmp_path / "stick", desk.bundles["1.0.0"])


def test_a_stick_is_good_for_weeks_and_a_copy_of_the_repository_for_a_day(
    desk: Desk, tmp_path: Path
) -> None:
    exported_in_the_past(desk, tmp_path / "stick", 20 * DAY)
    copy = shutil.copytree(desk.repo.directory, tmp_path / "copy")
    device = enrolled(desk, tmp_path / "device")
    assert device.update(tmp_path / "stick", desk.bundles["1.0.0"]).source == "full"
    with pytest.raises(UnavailableError, match="expired"):
        enrolled(desk, tmp_path / "other").update(copy)
    exported_in_the_past(desk, tmp_path / "old", 20 * DAY, days=10)
    with pytest.raises(UnavailableError, match="expired"):
        enrolled(desk, tmp_path / "third").update(tmp_path / "old")


def test_after_the_journey_a_device_takes_the_repository_again(desk: Desk, tmp_path: Path) -> None:
    export(desk, tmp_path / "stick")
    device = enrolled(desk, tmp_path / "device")
    device.update(tmp_path / "stick", desk.bundles["1.0.0"])
    # The floor under its clock is when the stick was signed, not a week before it expires.
    assert abs(device.floor_ms / 1000 - NOW.timestamp()) < 600
    assert device.update(desk.repo.directory).source == "none"
    desk.publish("1.1.0")
    brought = device.update(desk.repo.directory, desk.bundles["1.1.0"], version="1.1.0")
    assert brought.release == 2


def test_who_has_seen_newer_does_not_go_back_to_the_stick(
    desk: Desk, device: Device, tmp_path: Path
) -> None:
    export(desk, tmp_path / "stick")
    assert device.update(tmp_path / "stick").source == "none"  # it is newer than what was seen
    desk.publish("1.1.0")
    device.update(desk.repo.directory)
    with pytest.raises(TrustError):
        device.update(tmp_path / "stick")
    export(desk, tmp_path / "stick")  # brought up to date, it is
    assert device.update(tmp_path / "stick").source == "none"


def test_what_is_on_a_stick_does_not_pass_for_the_repository(
    desk: Desk, device: Device, tmp_path: Path
) -> None:
    export(desk, tmp_path / "stick")
    device.update(desk.repo.directory)  # signed anew by the export, above the stick
    for name in ("timestamp.json", "3.snapshot.json"):
        shutil.copy(tmp_path / "stick/metadata" / name, desk.repo.metadata / name)
    with pytest.raises(TrustError):
        device.update(desk.repo.directory)


def test_a_stick_does_not_outlive_what_the_publisher_signed(desk: Desk, tmp_path: Path) -> None:
    done = export(desk, tmp_path / "stick", "--days", 200)
    assert done.code == 0, done.err
    assert "targets expires then, before 200 days are over" in done.out


def test_bundles_are_chosen_by_name_and_by_kind_of_device(
    desk: Desk, packed: Packed, tmp_path: Path
) -> None:
    gateway = desk.folder / "gateway.whim"
    from whimbrel_core.bundle.manifest import Requirements

    needs = Requirements(device_classes=("gateway",))
    gateway.write_bytes(
        packed.again("1.0.0", 1, desk.keys / "bundle.pem", name="valve", requirements=needs)
    )
    done = whimbrel("publish", gateway, "--repo", desk.repo.directory, "--keys", desk.keys)
    assert done.code == 0, done.err
    desk.publish("1.1.0")
    released = desk.repo.released()

    def titles(wanted: tuple[str, ...], classes: tuple[str, ...] = ()) -> set[str]:
        return {f"{one.name}-{one.version}" for one in stick.choose(released, wanted, classes)}

    assert titles(()) == {"flights-1.1.0", "valve-1.0.0"}
    assert titles(("flights-1.0.0", "valve")) == {"flights-1.0.0", "valve-1.0.0"}
    assert titles((), ("sensor",)) == {"flights-1.1.0"}
    refused = export(desk, tmp_path / "stick", "--bundle", "valve", "--device-class", "sensor")
    assert refused.code == 2
    assert "no bundle valve is released for these devices" in refused.err
    assert not (tmp_path / "stick").exists()
    # And a device of another kind refuses it, whoever assigns it.
    export(desk, tmp_path / "stick")
    device = enrolled(desk, tmp_path / "device")
    with pytest.raises(CompatibilityError, match="for devices of class gateway"):
        device.update(tmp_path / "stick", gateway, "valve", device_classes=("sensor",))
    brought = device.update(tmp_path / "stick", gateway, "valve", device_classes=("gateway",))
    assert brought.name == "valve"


def test_a_delta_travels_with_its_bundle(desk: Desk, tmp_path: Path) -> None:
    desk.publish("1.1.0")
    export(desk, tmp_path / "stick")
    device = enrolled(desk, tmp_path / "device")
    held = desk.repo.released()[0].digest
    device.home.bundle(held).write_bytes(desk.bundles["1.0.0"].read_bytes())
    brought = device.update(
        tmp_path / "stick", desk.bundles["1.1.0"], version="1.1.0", held=(held,)
    )
    assert brought.source == "delta"


def test_a_stick_follows_every_root(desk: Desk, tmp_path: Path) -> None:
    for turn in (2, 3):
        desk.repo_command("rotate", "targets", "--new", desk.new_key(f"targets-{turn}"))
    export(desk, tmp_path / "stick")
    device = enrolled(desk, tmp_path / "device")
    assert device.update(tmp_path / "stick", desk.bundles["1.0.0"]).source == "full"


def test_an_archive_holds_the_same(desk: Desk, tmp_path: Path) -> None:
    assert export(desk, tmp_path / "stick.tar").code == 0
    assert export(desk, tmp_path / "stick.tar").code == 2  # never over another
    with tarfile.open(tmp_path / "stick.tar") as archive:
        # Pythons before 3.11.4 know no filters.
        kind = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        archive.extractall(tmp_path / "stick", **kind)  # type: ignore[arg-type]  # noqa: S202
    device = enrolled(desk, tmp_path / "device")
    assert device.update(tmp_path / "stick", desk.bundles["1.0.0"]).source == "full"


def test_a_stick_of_another_repository_is_not_touched(desk: Desk, tmp_path: Path) -> None:
    founded(tmp_path / "other", tmp_path / "k", tmp_path / "o", now=NOW)
    before = (tmp_path / "other/metadata/timestamp.json").read_bytes()
    done = export(desk, tmp_path / "other")
    assert done.code == 2
    assert "is a stick of another repository" in done.err
    assert (tmp_path / "other/metadata/timestamp.json").read_bytes() == before


@pytest.mark.parametrize("failing", [0, 1, 2, 5, 8])
def test_whoever_is_interrupted_spends_no_version_twice(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    export(desk, tmp_path / "stick")
    desk.publish("1.1.0")
    before = desk.repo.newest("timestamp")
    written: list[Path] = []
    real = atomic.write

    def write(path: Path, data: bytes, *, mode: int = 0o644, replace: bool = True) -> None:
        if len(written) == failing:
            raise StorageError(f"{path} could not be written: the disk is full")
        real(path, data, mode=mode, replace=replace)
        written.append(path)

    with monkeypatch.context() as patched:
        patched.setattr(atomic, "write", write)
        export(desk, tmp_path / "stick")
    assert desk.repo.newest("timestamp") == (before if failing < 2 else before + 2)
    assert seen_versions(desk.repo, tmp_path / "online") == {"1.0.0", "1.1.0"}
    device = enrolled(desk, tmp_path / "device")
    device.update(tmp_path / "stick")  # the old stick, or the new one
    assert export(desk, tmp_path / "stick").code == 0
    brought = device.update(tmp_path / "stick", desk.bundles["1.1.0"], version="1.1.0")
    assert brought.release == 2
