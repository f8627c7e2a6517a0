"""Publishing to a real fleet server over HTTP."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from tuf.api.metadata import Metadata

from tests.packager.command import whimbrel
from tests.packager.destinations.conftest import Publisher, seen
from tests.support import interrupted
from tests.support.fileserver import FileServer
from tests.support.ports import free_port
from tests.support.server_process import TOKEN, ServerProcess
from whimbrel_core.errors import (
    InputError,
    RefusedError,
    StorageError,
    UnavailableError,
    UsageError,
)
from whimbrel_core.identity import sha256
from whimbrel_core.signing.keys import PrivateKey
from whimbrel_packager.destinations import ConflictError
from whimbrel_packager.destinations import server as module
from whimbrel_packager.destinations.http import Http
from whimbrel_packager.destinations.server import FleetServer
from whimbrel_packager.repository import publishing
from whimbrel_packager.repository.repository import Repository
from whimbrel_packager.signing import keyfiles
from whimbrel_packager.signing.tuf_signer import TufSigner

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from whimbrel_packager.destinations.http import Answer


class Fleet(NamedTuple):
    """A running server over a copy of the publisher's first repository."""

    process: ServerProcess
    publisher: Publisher
    directory: Path

    def place(self, token: str | None = TOKEN) -> FleetServer:
        return FleetServer(self.process.url, token)

    def repository(self) -> Repository:
        return Repository(self.place())

    def publish(self, version: str, place: FleetServer | None = None) -> Any:  # noqa: ANN401
        return publishing.publish(
            Repository(place or self.place()),
            self.publisher.path(version),
            self.publisher.keys,
            now=datetime.now(UTC),
        )

    def incoming(self) -> list[str]:
        folder = self.directory / "incoming"
        return [file.name for file in folder.iterdir()] if folder.exists() else []


@pytest.fixture(scope="module")
def running(
    publisher: Publisher, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[ServerProcess, Path, Path]]:
    folder = tmp_path_factory.mktemp("fleet")
    template = folder / "template"
    shutil.copytree(publisher.house.repository.directory, template)
    values: dict[str, Any] = {"repository.watch_s": 30.0}  # what is seen came with the answer
    process = ServerProcess(publisher.house, folder / "server", free_port(), **values)
    directory = publisher.house.repository.directory
    process.start()
    yield process, directory, template
    process.stop()


@pytest.fixture
def fleet(running: tuple[ServerProcess, Path, Path], publisher: Publisher) -> Fleet:
    """The server as it was: one process for all tests, over a repository made anew for each."""
    process, directory, template = running
    for part in ("metadata", "targets", "incoming"):
        shutil.rmtree(directory / part, ignore_errors=True)
    for part in ("metadata", "targets"):
        shutil.copytree(template / part, directory / part)
    return Fleet(process, publisher, directory)


def test_what_is_published_over_http_is_what_devices_see(fleet: Fleet, tmp_path: Path) -> None:
    first = fleet.publish("1.0.0")
    assert (first.fresh, first.waiting) == (True, False)
    assert first.signed == ("2.targets.json",)  # the server signs the rest
    second = fleet.publish("1.1.0")
    assert set(second.delta_bytes) <= {"1.0.0"}
    assert seen(fleet.place(), tmp_path / "device") == {"1.0.0", "1.1.0"}
    again = fleet.publish("1.1.0")
    assert (again.fresh, again.targets_version) == (False, 3)
    assert fleet.incoming() == []
    audit = fleet.process.url + "/api/v1/audit"
    told = json.loads(Http(audit, what="it").ask("GET", "").body)
    mine = [entry for entry in told if entry["action"] == "repository.publish"]
    assert mine[0]["actor"].startswith("operator (")
    assert mine[0]["detail"]["version"] == 3
    assert mine[0]["detail"]["added"][0].endswith("churn-1.1.0.whim")


def test_the_command_publishes_with_the_operators_token(fleet: Fleet, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(TOKEN + "\n")
    bundle, url, keys = fleet.publisher.path("1.0.0"), fleet.process.url, fleet.publisher.keys
    denied = whimbrel("publish", bundle, "--to", url, "--keys", keys)
    assert denied.code == 4
    assert "changing this fleet needs the operator token; nothing was changed" in denied.err
    assert "--token-file" in denied.err
    assert seen(fleet.place(), tmp_path / "before") == set()
    done = whimbrel("publish", bundle, "--to", url, "--keys", keys, "--token-file", token)
    assert done.code == 0, done.err
    assert "published: churn 1.0.0, release 1" in done.out
    assert "waiting" not in done.out
    wrong = whimbrel("publish", bundle, "--to", url, "--keys", keys, "--online-keys",
                     fleet.publisher.online, "--token-file", token)  # fmt: skip
    assert wrong.code == 2
    assert "these keys are the server's" in wrong.err


def test_what_no_publisher_signed_is_refused(fleet: Fleet, tmp_path: Path) -> None:
    fleet.publish("1.0.0")
    place = fleet.place()
    newest = place.read("metadata/2.targets.json")
    assert newest is not None
    metadata: Metadata[Any] = Metadata.from_bytes(newest)
    metadata.signed.version = 3
    metadata.sign(TufSigner(PrivateKey.generate()))
    with pytest.raises(RefusedError, match="targets metadata does not verify") as caught:
        place.create("metadata/3.targets.json", metadata.to_bytes())
    assert caught.value.code == "trust.threshold"
    key = PrivateKey.from_pem((fleet.publisher.keys / "targets.pem").read_bytes())
    metadata.signed.expires = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)
    metadata.sign(TufSigner(key))
    with pytest.raises(RefusedError, match="expired"):
        place.create("metadata/3.targets.json", metadata.to_bytes())
    for name in ("3.snapshot.json", "timestamp.json", "x.targets.json", "..%2f1.root.json"):
        with pytest.raises((InputError, UsageError, RefusedError)):
            place.create(f"metadata/{name}", newest)
    assert seen(place, tmp_path / "device") == {"1.0.0"}
    assert not (fleet.directory / "metadata" / "3.targets.json").exists()


def test_metadata_that_names_what_never_came_is_refused(fleet: Fleet, tmp_path: Path) -> None:
    place = fleet.place()
    stored: list[str] = []
    place.store = lambda path, data: stored.append(path)  # type: ignore[method-assign]
    with pytest.raises(RefusedError, match=r"its \d+ bytes never came; nothing was published"):
        fleet.publish("1.0.0", place)
    assert stored
    assert seen(fleet.place(), tmp_path / "device") == set()


def test_a_bundle_that_no_trusted_key_signed_is_refused_by_the_server_too(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forged = tmp_path / "forged.whim"
    data = fleet.publisher.path("1.0.0").read_bytes()
    at = data.index(b"model.onnx") + 40
    forged.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    from whimbrel_packager.repository.publishing import Publishing

    monkeypatch.setattr(Publishing, "_verified", lambda *_: fleet.publisher.made["1.0.0"].manifest)
    with pytest.raises((RefusedError, InputError)):
        publishing.publish(fleet.repository(), forged, fleet.publisher.keys, now=datetime.now(UTC))
    assert seen(fleet.place(), tmp_path / "device") == set()


def test_a_full_disk_is_told_and_nothing_is_visible(fleet: Fleet, tmp_path: Path) -> None:
    data = fleet.publisher.path("1.0.0").read_bytes()
    (fleet.directory / "incoming").mkdir()
    part = fleet.directory / "incoming" / f"{sha256(data)}.part"
    part.symlink_to("/dev/full")
    with pytest.raises(StorageError, match="No space left on device; what is published still is"):
        fleet.publish("1.0.0")
    assert seen(fleet.place(), tmp_path / "between") == set()
    part.unlink()
    fleet.publish("1.0.0")
    assert seen(fleet.place(), tmp_path / "after") == {"1.0.0"}


def test_a_team_publishes_its_own_models_and_no_others(fleet: Fleet, tmp_path: Path) -> None:
    key, _ = keyfiles.create(tmp_path / "team", "team")
    done = whimbrel("repo", "delegate", "churners", "--dir", fleet.directory, "--model", "churn",
                    "--team-key", tmp_path / "team" / "team.pub", "--keys", fleet.publisher.keys,
                    "--online-keys", fleet.publisher.online)  # fmt: skip
    assert done.code == 0, done.err
    published = publishing.publish(
        fleet.repository(), fleet.publisher.path("1.0.0"), tmp_path / "team", now=datetime.now(UTC)
    )
    assert (published.role, published.fresh, published.waiting) == ("churners", True, False)
    assert seen(fleet.place(), tmp_path / "device") == {"1.0.0"}
    signed = fleet.place().read("metadata/1.churners.json")
    assert signed is not None
    metadata: Metadata[Any] = Metadata.from_bytes(signed)
    metadata.signed.version = 2
    path, target = next(iter(metadata.signed.targets.items()))
    metadata.signed.targets[path.replace("churn", "other")] = target
    metadata.sign(TufSigner(key))
    with pytest.raises(RefusedError, match="which was not delegated to it") as caught:
        fleet.place().create("metadata/2.churners.json", metadata.to_bytes())
    assert caught.value.code == "trust.role"


def test_a_version_is_taken_once(fleet: Fleet) -> None:
    fleet.publish("1.0.0")
    place = fleet.place()
    second = place.read("metadata/2.targets.json")
    assert second is not None
    place.create("metadata/2.targets.json", second)  # the same again is as good
    with pytest.raises(ConflictError, match=r"2\.targets\.json is theirs"):
        place.create("metadata/2.targets.json", second + b" ")
    with pytest.raises(ConflictError):
        place.create("metadata/4.targets.json", second)


def test_an_upload_goes_on_where_it_stopped(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "PIECE_BYTES", 1000)
    sent: list[int] = []
    real = Http.ask

    def ask(self: Http, method: str, path: str, **more: Any) -> Answer:  # noqa: ANN401
        if method == "PATCH":
            sent.append(len(more["body"]))
            if len(sent) == 3:
                # It arrives, and the answer does not.
                real(self, method, path, **more)
                raise UnavailableError("the connection was cut")
            if len(sent) == 4:
                raise UnavailableError("the connection was cut")
        return real(self, method, path, **more)

    monkeypatch.setattr(Http, "ask", ask)
    data = fleet.publisher.path("1.0.0").read_bytes()
    path = f"targets/bundles/churn/{sha256(data)}.churn-1.0.0.whim"
    fleet.place().store(path, data)
    assert sum(sent) == len(data) + 1000  # the fourth piece was sent twice
    assert fleet.incoming() == [sha256(data)]
    sent.clear()
    fleet.publish("1.0.0")
    assert sum(sent) < len(data)  # nothing of the bundle again
    assert fleet.incoming() == []
    assert seen(fleet.place(), tmp_path / "device") == {"1.0.0"}


def test_bytes_that_are_not_what_they_are_called_are_dropped(fleet: Fleet) -> None:
    place = fleet.place()
    with pytest.raises(RefusedError, match="do not have the digest") as caught:
        place._append(sha256(b"one"), 0, 3, b"two")
    assert caught.value.code == "trust.digest"
    assert fleet.incoming() == []
    with pytest.raises(InputError, match="is not a SHA-256"):
        place._append("A" * 64, 0, 3, b"two")
    with pytest.raises(UsageError, match="0 bytes of"):
        place._append(sha256(b"one"), 1, 3, b"ne")
    with pytest.raises(InputError, match="a file of 99999999999 bytes is not taken"):
        place._append(sha256(b"one"), 0, 99_999_999_999, b"one")
    with pytest.raises(InputError):
        place._append(sha256(b"one"), 0, 2, b"one")


def test_of_two_publishers_at_once_the_second_goes_on_from_the_first(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = FleetServer.create
    others = [fleet.place()]

    def create(self: FleetServer, path: str, data: bytes) -> None:
        if self not in others:
            others.append(self)
            fleet.publish("1.0.0", others[0])  # somebody else, right before
        real(self, path, data)

    monkeypatch.setattr(FleetServer, "create", create)
    done = fleet.publish("1.1.0")
    assert (done.fresh, done.targets_version) == (True, 3)
    assert seen(fleet.place(), tmp_path / "device") == {"1.0.0", "1.1.0"}


@pytest.mark.parametrize("at", [0, 1])
def test_a_publisher_that_is_killed_leaves_the_old_state_and_publishes_again(
    fleet: Fleet, tmp_path: Path, at: int
) -> None:
    token = tmp_path / "token"
    token.write_text(TOKEN)
    words = ("publish", fleet.publisher.path("1.0.0"), "--to", fleet.process.url, "--keys",
             fleet.publisher.keys, "--token-file", token)  # fmt: skip
    assert interrupted.run(at, *words) == -9  # before the bundle is sent, before it is named
    assert seen(fleet.place(), tmp_path / "between") == set()
    fleet.publish("1.0.0")
    assert seen(fleet.place(), tmp_path / "after") == {"1.0.0"}


def test_a_server_that_is_killed_in_the_middle_goes_on_with_the_same_publication(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PIECE_BYTES", 1000)
    monkeypatch.setattr("whimbrel_packager.destinations.http._ATTEMPTS", 0)
    real, place, sent = FleetServer._append, fleet.place(), []

    def append(self: FleetServer, *args: Any) -> Any:  # noqa: ANN401 - passed on
        sent.append(args)
        if len(sent) == 3:
            fleet.process.kill()
        return real(self, *args)

    with monkeypatch.context() as patched:
        patched.setattr(FleetServer, "_append", append)
        with pytest.raises(UnavailableError, match="does not answer"):
            fleet.publish("1.0.0", place)
    fleet.process.start()
    assert seen(fleet.place(), tmp_path / "between") == set()
    assert len(fleet.incoming()) == 1
    fleet.publish("1.0.0")
    assert seen(fleet.place(), tmp_path / "after") == {"1.0.0"}


def test_an_address_that_leads_to_no_fleet_server_is_named(tmp_path: Path) -> None:
    something_else = FileServer(tmp_path)
    try:
        with pytest.raises(UsageError, match="not as a Whimbrel server does"):
            Repository(FleetServer(something_else.url, TOKEN)).root()
    finally:
        something_else.close()
