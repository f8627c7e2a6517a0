"""Bundles in a real OCI registry, and what independent tools see there."""

from __future__ import annotations

import base64
import io
import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.packager.command import whimbrel
from tests.support.models import MadeBundle, build_bundle, logistic
from tests.support.ports import free_port
from tests.support.registry import LOGIN, RegistryProcess, TokenServer, passwords
from whimbrel_core.bundle import archive
from whimbrel_core.errors import (
    BundleError,
    RefusedError,
    TrustError,
    UnavailableError,
    UsageError,
)
from whimbrel_packager.destinations import modelpack, oci
from whimbrel_packager.destinations.oci import Reference, Registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.needs("docker-registry")


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryProcess]:
    made = RegistryProcess(tmp_path_factory.mktemp("registry")).start()
    yield made
    made.close()


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> tuple[MadeBundle, MadeBundle]:
    folder = tmp_path_factory.mktemp("bundles")
    first = build_bundle(folder, logistic(seed=1), name="churn")
    second = build_bundle(
        folder, logistic(seed=2), name="churn", version="1.1.0", release=2, key=first.key
    )
    return first, second


@pytest.fixture(autouse=True)
def logins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nobody's logins but those of the test."""
    file = tmp_path / "logins.json"
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(file))
    return file


def reference(registry: RegistryProcess, path: Path, tag: str = "") -> Reference:
    """A name of its own for each test."""
    return Reference(registry.host, f"models/{path.name.lower().replace('_', '-')}", tag)


def push(made: MadeBundle, where: Reference) -> oci.Pushed:
    return Registry(where).push(made.path.read_bytes(), made.manifest)


def test_what_was_pushed_comes_back_byte_for_byte(
    registry: RegistryProcess, bundles: tuple[MadeBundle, MadeBundle], tmp_path: Path
) -> None:
    made = bundles[0]
    pushed = push(made, reference(registry, tmp_path))
    assert pushed.fresh
    assert pushed.reference.tag == "1.0.0"
    for wanted in (pushed.reference, pushed.reference._replace(tag="", digest=pushed.digest)):
        data, digest = Registry(wanted).pull()
        assert data == made.path.read_bytes()
        assert digest == pushed.digest


def test_the_same_again_changes_nothing_and_equal_files_are_sent_once(
    registry: RegistryProcess, bundles: tuple[MadeBundle, MadeBundle], tmp_path: Path
) -> None:
    where = reference(registry, tmp_path)
    first = push(bundles[0], where)
    again = push(bundles[0], where)
    assert (again.fresh, again.sent_bytes, again.digest) == (False, 0, first.digest)
    assert first.sent_bytes > bundles[0].path.stat().st_size * 0.5
    other = push(bundles[0], where._replace(tag="stable"))
    assert (other.fresh, other.sent_bytes) == (True, 0)
    assert push(bundles[1], where).reference.tag == "1.1.0"


def test_a_published_version_never_changes(
    registry: RegistryProcess, bundles: tuple[MadeBundle, MadeBundle], tmp_path: Path
) -> None:
    where = reference(registry, tmp_path, "1.0.0")
    push(bundles[0], where)
    with pytest.raises(RefusedError, match="published already, with other content"):
        push(bundles[1], where)
    assert Registry(where).pull()[0] == bundles[0].path.read_bytes()


@pytest.mark.needs("skopeo")
def test_the_artifact_is_a_modelpack_that_other_tools_read(
    registry: RegistryProcess, bundles: tuple[MadeBundle, MadeBundle], tmp_path: Path
) -> None:
    made = bundles[0]
    where = push(made, reference(registry, tmp_path)).reference
    artifact = modelpack.artifact(made.path.read_bytes(), made.manifest)
    manifest = json.loads(artifact.manifest)
    assert manifest["artifactType"] == "application/vnd.cncf.model.manifest.v1+json"
    assert manifest["config"]["mediaType"] == "application/vnd.cncf.model.config.v1+json"
    kinds = {
        layer["annotations"]["org.cncf.model.filepath"]: layer["mediaType"].removeprefix(
            "application/vnd.cncf.model."
        )
        for layer in manifest["layers"]
    }
    assert kinds["model.onnx"] == "weight.v1.raw"
    assert kinds["parity.npz"] == "dataset.v1.raw"
    assert kinds["manifest.json"] == "weight.config.v1.raw"
    assert set(kinds) == set(archive.Archive(io.BytesIO(made.path.read_bytes())).names)
    config = json.loads(artifact.blobs[manifest["config"]["digest"]])
    assert config["descriptor"] == {"name": "churn", "version": "1.0.0"}
    assert config["modelfs"]["diffIds"] == [layer["digest"] for layer in manifest["layers"]]
    address = f"docker://{where.host}/{where.name}:{where.tag}"
    raw = subprocess.run(
        ["skopeo", "inspect", "--tls-verify=false", "--raw", address],
        check=True,
        capture_output=True,
    )
    assert raw.stdout == artifact.manifest
    copied = tmp_path / "layout"
    subprocess.run(
        ["skopeo", "copy", "--src-tls-verify=false", address, f"oci:{copied}:1.0.0"],
        check=True,
        capture_output=True,
    )
    blobs = {file.name for file in (copied / "blobs" / "sha256").iterdir()}
    assert {digest.removeprefix("sha256:") for digest in artifact.blobs} <= blobs


def test_a_large_file_goes_in_pieces(
    registry: RegistryProcess,
    bundles: tuple[MadeBundle, MadeBundle],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(oci, "PIECE_BYTES", 700)
    where = push(bundles[0], reference(registry, tmp_path)).reference
    assert Registry(where).pull()[0] == bundles[0].path.read_bytes()


@pytest.mark.parametrize("kind", ["password", "token"])
def test_a_registry_that_asks_who_we_are_is_told(
    bundles: tuple[MadeBundle, MadeBundle], tmp_path: Path, logins: Path, kind: str
) -> None:
    tokens = TokenServer(tmp_path / "tokens")
    auth = tokens.auth() if kind == "token" else passwords(tmp_path / "auth")
    closed = RegistryProcess(tmp_path / "registry", auth).start()
    try:
        where = Reference(closed.host, "models/churn")
        with pytest.raises(TrustError, match="did not") as caught:
            push(bundles[0], where)
        assert caught.value.code == "access.registry"
        assert f"docker login {closed.host}" in str(caught.value.hint)
        entry = {"auth": base64.b64encode(LOGIN.encode()).decode()}
        logins.write_text(json.dumps({"auths": {closed.host: entry}}))
        pushed = push(bundles[0], where)
        assert Registry(pushed.reference).pull()[0] == bundles[0].path.read_bytes()
        assert (kind == "token") == bool(tokens.asked)
    finally:
        closed.close()
        tokens.close()


def test_a_registry_that_is_away_is_named(
    bundles: tuple[MadeBundle, MadeBundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("whimbrel_packager.destinations.http._ATTEMPTS", 0)
    port = free_port()
    with pytest.raises(UnavailableError, match=f"127.0.0.1:{port} does not answer"):
        push(bundles[0], Reference(f"127.0.0.1:{port}", "models/churn"))


def test_what_is_no_bundle_is_not_pulled(registry: RegistryProcess, tmp_path: Path) -> None:
    where = reference(registry, tmp_path, "1.0.0")
    with pytest.raises(UsageError, match="there is no oci://"):
        Registry(where).pull()
    with pytest.raises(UsageError, match="names no version"):
        Registry(where._replace(tag="")).pull()
    image = {
        "schemaVersion": 2,
        "mediaType": modelpack.MANIFEST_TYPE,
        "config": {"mediaType": "a/b", "digest": "sha256:" + "0" * 64, "size": 1},
        "layers": [],
    }
    with pytest.raises(BundleError, match="no bundle"):
        modelpack.read(json.dumps(image).encode(), "it")


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m["layers"][0]["annotations"].update({modelpack.FILE_PATH: "../../etc/passwd"}),
        lambda m: m["layers"].pop(),
        lambda m: m["annotations"].update({modelpack.BUNDLE_DIGEST: "0" * 64}),
    ],
    ids=["path", "missing", "digest"],
)
def test_an_artifact_that_was_changed_is_refused(
    bundles: tuple[MadeBundle, MadeBundle],
    change: Any,  # noqa: ANN401 - a function of the case
) -> None:
    made = modelpack.artifact(bundles[0].path.read_bytes(), bundles[0].manifest)
    manifest = json.loads(made.manifest)
    change(manifest)
    read = modelpack.read(json.dumps(manifest).encode(), "it")
    with pytest.raises((TrustError, BundleError)):
        modelpack.bundle(read, made.blobs, "it")


@pytest.mark.parametrize(
    "text", ["oci://host", "oci://host/UPPER", "oci://host/a b", "oci://host/a:1:2", "oci:///a"]
)
def test_a_name_that_no_registry_takes_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not the name of an artifact"):
        Reference.parse(text)


def test_the_commands_push_and_pull(
    registry: RegistryProcess, bundles: tuple[MadeBundle, MadeBundle], tmp_path: Path
) -> None:
    made, place = bundles[0], str(reference(registry, tmp_path))
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "bundle.pub").write_text(made.key.public.pem)
    done = whimbrel("publish", made.path, "--to", place, "--keys", tmp_path / "keys")
    assert done.code == 0, done.err
    assert f"published: churn 1.0.0 at {place}:1.0.0" in done.out
    pulled = whimbrel(
        "pull",
        f"{place}:1.0.0",
        "--out",
        tmp_path / "here",
        "--key",
        tmp_path / "keys" / "bundle.pub",
    )
    assert pulled.code == 0, pulled.err
    file = tmp_path / "here" / "churn-1.0.0.whim"
    assert file.read_bytes() == made.path.read_bytes()
    told = whimbrel("publish", made.path, "--to", place, "--keys", tmp_path / "keys", "--json")
    assert json.loads(told.out)["fresh"] is False
    (tmp_path / "keys" / "bundle.pub").write_text(build_bundle(tmp_path / "x").key.public.pem)
    refused = whimbrel("publish", made.path, "--to", place, "--keys", tmp_path / "keys")
    assert refused.code == 4
    assert "nothing was published" in refused.err
