"""A team releases the bundles of its models, with its own keys, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest
from tuf.api.metadata import Metadata, TargetFile  # type: ignore[attr-defined]  # public

from tests.packager.command import Done, whimbrel
from whimbrel_core.errors import TrustError, UnavailableError
from whimbrel_packager.repository.metadata import signed_by
from whimbrel_packager.signing import keyfiles
from whimbrel_server.repository import Repository as ServersView
from whimbrel_server.repository.keys import load_signer
from whimbrel_server.repository.online import OnlineRoles

if TYPE_CHECKING:
    from pathlib import Path

    from tests.packager.conftest import Packed
    from tests.packager.repository.conftest import Desk, Device


class Team(NamedTuple):
    """A team with its keys, and bundles of its model, turbine."""

    desk: Desk
    keys: Path
    bundles: dict[str, Path]

    def publish(self, version: str, *, online: bool = True) -> Done:
        options = ("--online-keys", self.desk.online) if online else ()
        return whimbrel("publish", self.bundles[version], "--repo", self.desk.repo.directory,
                        "--keys", self.keys, *options)  # fmt: skip


@pytest.fixture
def team(desk: Desk, packed: Packed, tmp_path: Path) -> Team:
    keys = tmp_path / "team"
    for name in ("turbine-team", "bundle"):
        keyfiles.create(keys, name)
    done = desk.repo_command("delegate", "turbine-team", "--model", "turbine", "--team-key",
                             keys / "turbine-team.pub")  # fmt: skip
    assert done.code == 0, done.err
    done = desk.repo_command("add-key", "bundle", "--new", keys / "bundle.pub", "--model",
                             "turbine", "--holder", "Turbine team")  # fmt: skip
    assert done.code == 0, done.err
    bundles = {}
    for release, version in enumerate(("1.0.0", "1.1.0"), start=1):
        bundles[version] = tmp_path / f"turbine-{version}.whim"
        bundles[version].write_bytes(
            packed.again(version, release, keys / "bundle.pem", name="turbine")
        )
    return Team(desk, keys, bundles)


def test_a_team_publishes_and_everybody_finds_it(team: Team, device: Device) -> None:
    repository = team.desk.repo.directory
    with pytest.raises(UnavailableError, match="released nothing"):
        device.update(repository, team.bundles["1.0.0"], "turbine")
    for version in ("1.0.0", "1.1.0"):
        done = team.publish(version)
        assert done.code == 0, done.err
    assert "turbine-team.json" in done.out
    assert "delta     from 1.0.0" in done.out
    done_by = device.update(repository, team.bundles["1.1.0"], "turbine", "1.1.0")
    assert (done_by.name, done_by.release) == ("turbine", 2)
    assert device.fetched(team.bundles["1.1.0"])
    assert device.sees(repository, "bundles/turbine/turbine-1.0.0.whim")
    assert device.sees(repository, "bundles/flights/flights-1.0.0.whim")
    view = ServersView(repository)
    view.reload()
    found = {(one.name, one.version): one.problem for one in view.published()}
    assert found == {("flights", "1.0.0"): "", ("turbine", "1.0.0"): "", ("turbine", "1.1.0"): ""}
    assert team.desk.repo.next_release("turbine", "2.0.0") == 3
    assert "turbine-team" in whimbrel("repo", "show", "--dir", repository).out


def test_the_server_signs_what_a_team_released(team: Team, device: Device) -> None:
    from datetime import UTC, datetime

    assert team.publish("1.0.0", online=False).code == 0
    desk = team.desk
    server = OnlineRoles(
        desk.repo.directory,
        load_signer((desk.online / "snapshot.pem").read_bytes()),
        load_signer((desk.online / "timestamp.pem").read_bytes()),
    )
    assert desk.repo.status().waiting
    assert server.refresh(datetime.now(UTC))
    assert not desk.repo.status().waiting
    assert not server.refresh(datetime.now(UTC))
    assert device.update(desk.repo.directory, team.bundles["1.0.0"], "turbine").source == "full"


def test_a_team_releases_no_other_model(team: Team) -> None:
    desk = team.desk
    done = whimbrel("publish", desk.bundles["1.1.0"], "--repo", desk.repo.directory, "--keys",
                    team.keys)  # fmt: skip
    assert done.code == 4
    assert "given targets key is not the one" in done.err
    # Nor does the publisher, of a model that was given away.
    done = whimbrel("publish", team.bundles["1.0.0"], "--repo", desk.repo.directory, "--keys",
                    desk.keys)  # fmt: skip
    assert done.code == 4
    assert "given turbine-team key is not the one" in done.err


def forge(team: Team, path: str, custom: dict[str, object], bundle: Path) -> None:
    """Let the team sign, past every tool, what it likes."""
    repo = team.desk.repo
    version = repo.newest("turbine-team")
    signed = repo.raw("turbine-team", version).signed
    data = bundle.read_bytes()
    target = TargetFile.from_data(path, data, ["sha256"])
    target.unrecognized_fields["custom"] = {"whimbrel": custom}
    folder, _, name = path.rpartition("/")
    repo.destination.store(f"targets/{folder}/{target.hashes['sha256']}.{name}", data)
    signed.targets[path] = target
    signed.version += 1
    key = keyfiles.private(team.keys / "turbine-team.pem")
    repo.put("turbine-team", signed_by(Metadata(signed), [key], None))
    team.desk.repo_command("refresh", keys=False)


def test_what_a_team_signs_outside_its_models_is_not_found(team: Team, device: Device) -> None:
    team.publish("1.0.0")
    path = "bundles/flights/flights-9.9.9.whim"
    custom = {"name": "flights", "version": "9.9.9", "release": 99, "profile_id": ""}
    forge(team, path, custom, team.desk.bundles["1.1.0"])
    assert not device.sees(team.desk.repo.directory, path)
    view = ServersView(team.desk.repo.directory)
    view.reload()
    assert ("flights", "9.9.9") not in {(one.name, one.version) for one in view.published()}


@pytest.mark.parametrize("name", ["flights", "turbine"])
def test_a_team_cannot_pass_off_another_models_bundle_as_its_own(
    team: Team, device: Device, name: str
) -> None:
    team.publish("1.0.0")
    old = team.desk.bundles["1.0.0"]  # signed by the publisher, and long superseded
    custom = {"name": name, "version": "9.9.9", "release": 99, "profile_id": ""}
    forge(team, "bundles/turbine/turbine-9.9.9.whim", custom, old)
    with pytest.raises(TrustError, match="is signed as") as caught:
        device.update(team.desk.repo.directory, old, "turbine", "9.9.9")
    assert caught.value.code == "trust.identity"
    assert not device.fetched(old)


def test_a_teams_key_is_exchanged_by_the_publisher(team: Team, device: Device) -> None:
    team.publish("1.0.0")
    _, new = keyfiles.create(team.keys, "turbine-team-2")
    words = ("rotate", "turbine-team", "--new", new.with_suffix(".pub"))
    staged = team.desk.repo_command(*words)
    assert "staged" in staged.out  # the team countersigns what it has released
    done = whimbrel("repo", "sign", "--dir", team.desk.repo.directory, "--key", new,
                    "--online-keys", team.desk.online)  # fmt: skip
    assert done.code == 0, done.err
    repository = team.desk.repo.directory
    assert device.update(repository, team.bundles["1.0.0"], "turbine").release == 1
    (team.keys / "turbine-team.pem").unlink()
    assert team.publish("1.1.0").code == 0
    assert device.update(repository, team.bundles["1.1.0"], "turbine", "1.1.0").release == 2


def test_what_was_delegated_is_taken_back(team: Team, device: Device, packed: Packed) -> None:
    team.publish("1.0.0")
    repository = team.desk.repo.directory
    assert device.sees(repository, "bundles/turbine/turbine-1.0.0.whim")
    done = team.desk.repo_command("revoke", "turbine-team")
    assert done.code == 0, done.err
    assert not device.sees(repository, "bundles/turbine/turbine-1.0.0.whim")
    assert device.sees(repository, "bundles/flights/flights-1.0.0.whim")
    # The publisher releases the model now, above what the team had released.
    own = team.desk.folder / "own.whim"
    own.write_bytes(packed.again("2.0.0", 3, team.desk.keys / "bundle.pem", name="turbine"))
    done = whimbrel("publish", own, "--repo", repository, "--keys", team.desk.keys,
                    "--online-keys", team.desk.online)  # fmt: skip
    assert done.code == 0, done.err
    assert device.update(repository, own, "turbine", "2.0.0").release == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("root", "--model", "m"), "is a role already"),
        (("A team", "--model", "m"), "is no name for a team"),
        (("other", "--model", "turbine"), "delegated to turbine-team already"),
        (("turbine-team", "--model", "m"), "delegated to turbine-team already"),
        (("other", "--model", "../root"), "../root"),
        (("other", "--model", "*"), "'*'"),
    ],
)
def test_a_delegation_that_cannot_be_is_refused(
    team: Team, words: tuple[str, ...], said: str
) -> None:
    done = team.desk.repo_command("delegate", *words, "--team-key", team.keys / "bundle.pub")
    assert (done.code, said in done.err) == (3 if "valid model" in done.err else 2, True), done.err
