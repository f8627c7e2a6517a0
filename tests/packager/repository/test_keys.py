"""Keys are added, exchanged and revoked, and every device that was enrolled once follows."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from tests.packager.command import whimbrel
from tests.packager.repository.conftest import Desk, Device
from tests.packager.test_repository import seen_versions
from whimbrel_core.errors import StorageError, TrustError
from whimbrel_packager import atomic
from whimbrel_packager.signing import keyfiles
from whimbrel_server.repository import Repository as ServersView
from whimbrel_server.repository.keys import load_signer
from whimbrel_server.repository.online import OnlineRoles

if TYPE_CHECKING:
    from pathlib import Path

    from tests.packager.conftest import Packed

FIRST = "bundles/flights/flights-1.0.0.whim"


def later_device(desk: Desk, home: Path) -> Device:
    """A device that is enrolled with the first root and comes for the first time."""
    return Device(home, (desk.repo.metadata / "1.root.json").read_bytes())


@pytest.mark.parametrize("role", ["root", "targets", "snapshot", "timestamp"])
def test_a_key_of_any_role_is_exchanged_and_every_device_follows(
    desk: Desk, device: Device, tmp_path: Path, role: str
) -> None:
    folder = desk.online if role in {"snapshot", "timestamp"} else desk.keys
    new = desk.new_key(f"{role}-2", folder)
    if role != "root":
        (folder / f"{role}.pem").unlink()  # it was lost: that is why
    done = desk.repo_command("rotate", role, "--new", new)
    assert done.code == 0, done.err
    assert "2.root.json" in done.out
    for one in (device, later_device(desk, tmp_path / "later")):
        assert one.sees(desk.repo.directory, FIRST)
        assert one.update(desk.repo.directory, desk.bundles["1.0.0"]).source == "full"
    assert desk.publish("1.1.0").code == 0
    assert device.update(desk.repo.directory, desk.bundles["1.1.0"], version="1.1.0").release == 2
    assert device.sees(desk.repo.directory, "bundles/flights/flights-1.1.0.whim")
    assert (desk.repo.metadata / "1.root.json").is_file()


def test_a_device_that_slept_through_many_roots_wakes_up(
    desk: Desk, device: Device, tmp_path: Path
) -> None:
    for turn in range(2, 6):
        role = ("root", "targets")[turn % 2]
        done = desk.repo_command("rotate", role, "--new", desk.new_key(f"{role}-{turn}"))
        assert done.code == 0, done.err
    assert desk.publish("1.1.0").code == 0
    shutil.copytree(desk.repo.directory, tmp_path / "stick")  # it never sees a network
    done_by = device.update(tmp_path / "stick", desk.bundles["1.1.0"], version="1.1.0")
    assert done_by.version == "1.1.0"
    assert desk.repo.root().version == 5


def test_the_old_key_signs_nothing_any_more(desk: Desk) -> None:
    old = shutil.copytree(desk.keys, desk.folder / "old")
    desk.repo_command("rotate", "targets", "--new", desk.new_key("targets-2"))
    refused = desk.publish("1.1.0", keys=old)
    assert refused.code == 4
    assert "given targets key is not the one" in refused.err


def test_a_root_that_the_old_root_did_not_sign_is_not_published(desk: Desk) -> None:
    (desk.keys / "root.pem").unlink()
    done = desk.repo_command("rotate", "root", "--new", desk.new_key("root-2"))
    assert done.code == 0
    assert "staged, nothing is published yet" in done.out
    assert desk.repo.root().version == 1


def test_online_keys_on_a_server_are_exchanged_without_a_gap(
    desk: Desk, device: Device, tmp_path: Path
) -> None:
    second = tmp_path / "second"
    new = desk.new_key("timestamp", second)
    refused = desk.repo_command("rotate", "timestamp", "--new", new, online=False)
    assert refused.code == 4
    assert "not signed by the timestamp keys of the new root" in refused.err
    assert desk.repo.root().version == 1
    added = desk.repo_command("add-key", "timestamp", "--new", new, online=False)
    assert added.code == 0, added.err
    assert device.sees(desk.repo.directory, FIRST)
    server = OnlineRoles(
        desk.repo.directory,
        load_signer((desk.online / "snapshot.pem").read_bytes()),
        load_signer((second / "timestamp.pem").read_bytes()),
    )
    assert server.refresh(datetime.now(UTC) + timedelta(hours=20)) == ("timestamp.json",)
    old = desk.online / "timestamp.pub"
    revoked = desk.repo_command("revoke", "timestamp", "--old", old, online=False)
    assert revoked.code == 0, revoked.err
    assert device.sees(desk.repo.directory, FIRST)
    stale = OnlineRoles(
        desk.repo.directory,
        load_signer((desk.online / "snapshot.pem").read_bytes()),
        load_signer((desk.online / "timestamp.pem").read_bytes()),
    )
    with pytest.raises(TrustError, match="is not the one that root version 3 names"):
        stale.refresh(datetime.now(UTC) + timedelta(days=2))


def test_a_server_whose_keys_were_exchanged_signs_what_is_there_again(
    desk: Desk, device: Device
) -> None:
    new = shutil.copytree(desk.online, desk.folder / "new")
    (new / "snapshot.pem").unlink()
    desk.new_key("snapshot", new)
    done = whimbrel("repo", "rotate", "snapshot", "--dir", desk.repo.directory, "--new",
                    new / "snapshot.pub", "--keys", desk.keys, "--online-keys", new)  # fmt: skip
    assert done.code == 0, done.err
    server = OnlineRoles(
        desk.repo.directory,
        load_signer((new / "snapshot.pem").read_bytes()),
        load_signer((new / "timestamp.pem").read_bytes()),
    )
    assert server.refresh(datetime.now(UTC) + timedelta(days=4))
    assert device.sees(desk.repo.directory, FIRST)


def test_the_fleet_key_is_exchanged_and_devices_take_the_new_one(
    desk: Desk, device: Device
) -> None:
    new = desk.new_key("fleet-2", desk.online)
    done = desk.repo_command("rotate", "fleet", "--new", new, "--holder", "Fleet 2")
    assert done.code == 0, done.err
    assert device.update(desk.repo.directory).trust_changed
    (key,) = json.loads(device.home.fleet_json.read_bytes())["keys"]
    assert key == {"pem": keyfiles.public(new).pem, "name": "Fleet 2"}
    view = ServersView(desk.repo.directory)
    view.reload()
    assert view.fleet_key_ids() == {keyfiles.public(new).id}


def test_a_revoked_publisher_releases_nothing_more_and_what_it_signed_is_named(
    desk: Desk, device: Device, tmp_path: Path
) -> None:
    view = ServersView(desk.repo.directory)
    view.reload()
    assert [one.problem for one in view.published()] == [""]
    done = desk.repo_command("rotate", "bundle", "--new", desk.new_key("bundle-2"))
    assert done.code == 0, done.err
    assert "flights 1.0.0 is signed by a key that is not trusted for it (any more)" in done.out
    refused = desk.publish("1.1.0")
    assert refused.code == 4
    assert "nothing was published" in refused.err
    assert view.reload()
    assert "no trusted key" in view.published()[0].problem
    device.update(desk.repo.directory)
    (key,) = json.loads(device.home.publishers_json.read_bytes())["keys"]
    assert key["pem"] == keyfiles.public(desk.keys / "bundle-2.pub").pem


def test_a_publisher_of_one_model_is_named_and_signs_that_alone(desk: Desk, packed: Packed) -> None:
    new = desk.new_key("weather")
    words = ("add-key", "bundle", "--new", new, "--model", "weather", "--holder", "Weather team")
    done = desk.repo_command(*words)
    assert done.code == 0, done.err
    other = desk.folder / "other.whim"
    other.write_bytes(packed.again("1.1.0", 2, desk.keys / "weather.pem"))
    refused = whimbrel("publish", other, "--repo", desk.repo.directory, "--keys", desk.keys)
    assert refused.code == 4
    other.write_bytes(packed.again("1.1.0", 2, desk.keys / "weather.pem", name="weather"))
    taken = whimbrel("publish", other, "--repo", desk.repo.directory, "--keys", desk.keys)
    assert taken.code == 0, taken.err
    shown = whimbrel("repo", "show", "--dir", desk.repo.directory).out
    assert "for weather  Weather team" in shown
    named = whimbrel("verify", other, "--repo", desk.repo.directory)
    assert "Weather team" in named.out


REFUSED = {
    "the last bundle key": (("revoke", "bundle", "--old"), "bundle", 4, "no bundle key would be"),
    "the last targets key": (("revoke", "targets", "--old"), "targets", 4, "would have 0 keys"),
    "a key twice": (("add-key", "root", "--new"), "root", 2, "is a root key already"),
    "a bundle key twice": (("add-key", "bundle", "--new"), "bundle", 2, "bundle key already"),
    "no such role": (("add-key", "captain", "--new"), "root", 2, "there is no role captain"),
    "no such key": (("revoke", "root", "--old"), "bundle", 2, "root has 0 keys whose id begins"),
    "too many to sign": (("add-key", "root", "--threshold", 3, "--new"), "spare", 4,
                         "2 keys, and 3 of them have to sign"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_lock_everybody_out_is_refused(desk: Desk, case: str) -> None:
    words, key, code, said = REFUSED[case]
    desk.new_key("spare")
    before = sorted(path.name for path in desk.repo.metadata.iterdir())
    done = desk.repo_command(*words, desk.keys / f"{key}.pub")
    assert (done.code, said in done.err) == (code, True), done.err
    assert sorted(path.name for path in desk.repo.metadata.iterdir()) == before


@pytest.mark.parametrize("failing", range(4))
def test_whoever_is_interrupted_leaves_the_old_root_or_the_new_one(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    new = desk.new_key("targets-2")
    written: list[Path] = []
    real = atomic.write

    def write(path: Path, data: bytes, *, mode: int = 0o644, replace: bool = True) -> None:
        if len(written) == failing:
            raise StorageError(f"{path} could not be written: the disk is full")
        real(path, data, mode=mode, replace=replace)
        written.append(path)

    with monkeypatch.context() as patched:
        patched.setattr(atomic, "write", write)
        done = desk.repo_command("rotate", "targets", "--new", new)
    # countersigned targets, root, snapshot, timestamp
    assert done.code == 7, done.err
    assert seen_versions(desk.repo, tmp_path / "between") == {"1.0.0"}
    assert desk.repo.root().version == (1 if failing < 2 else 2)
    if failing < 2:
        again = desk.repo_command("rotate", "targets", "--new", new)
        assert again.code == 0, again.err
    assert desk.publish("1.1.0").code == 0
    assert seen_versions(desk.repo, tmp_path / "after") == {"1.0.0", "1.1.0"}


def test_root_is_signed_anew_before_it_expires(desk: Desk, device: Device) -> None:
    done = whimbrel("repo", "refresh", "--dir", desk.repo.directory, "--keys", desk.keys, "--root")
    assert done.out == "signed 2.root.json\n"
    assert device.sees(desk.repo.directory, FIRST)
