"""Making a server: its folder, its authority, its configuration, and bad input to all of it."""

from __future__ import annotations

import re
import stat
import tomllib
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from tests.server.conftest import settings_for
from whimbrel_core.cli import main
from whimbrel_core.errors import ConfigError, InputError, TrustError, UsageError, WhimbrelError
from whimbrel_server import config, enrolment, provision
from whimbrel_server.app import Fleet
from whimbrel_server.commands.server import server

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.house import House

NOW = enrolment.now_utc()


def csr(*, key: object = None, name: str = "anything") -> str:
    signer = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject)
    made = request.sign(signer, hashes.SHA256())  # type: ignore[arg-type]
    return made.public_bytes(serialization.Encoding.PEM).decode()


def test_the_shipped_file_is_the_configuration_with_every_key() -> None:
    shipped = tomllib.loads(config.default_text())

    def keys(struct: type, at: str = "") -> set[str]:
        import msgspec

        found = set()
        for field in msgspec.structs.fields(struct):
            if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
                found |= keys(field.type, f"{at}{field.name}.")
            else:
                found.add(at + field.name)
        return found

    written = {
        f"{section}.{key}" if isinstance(value, dict) else section
        for section, value in shipped.items()
        for key in (value if isinstance(value, dict) else [""])
    }
    # Tables in a row cannot be shown empty, only as a comment.
    written |= {
        name[1]
        for name in re.finditer(r"^# \[\[([a-z.]+)\]\]$", config.default_text(), re.MULTILINE)
    }
    assert written == keys(config.Config)


def test_the_shipped_values_are_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "server.toml"
    file.write_text(config.default_text())
    assert config.load(file, {}).config == config.Config()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[http]\nprt = 1", "unknown key 'http.prt'"),
        ("[http]\nport = 70000", "port"),
        ("[monitoring]\ncheckpoint_s = 0", "above zero"),
        ('[auth]\nread = "everybody"', "everybody"),
        ("[retraining]\ncommand = 'rm -rf /'", "command"),
        ("not toml", "not valid TOML"),
    ],
)
def test_a_wrong_configuration_is_named(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "server.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        config.load(file, {})


def test_environment_and_flags_win_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "server.toml"
    file.write_text("[mqtt]\nport = 1\n")
    env = {"WHIMBREL_SERVER__MQTT__PORT": "2", "WHIMBREL_SERVER__MQTT__HOST": "hub"}
    loaded = config.load(file, env, {"mqtt.port": 3, "http.port": None}).config
    assert (loaded.mqtt.host, loaded.mqtt.port, loaded.http.port) == ("hub", 3, 8500)


def test_init_makes_a_folder_that_check_understands(house: House, tmp_path: Path) -> None:
    house.publish("1.0.0")
    token = tmp_path / "operator.token"
    arguments = ["init", "--dir", tmp_path / "fleet", "--repo", house.repository.directory]
    arguments += ["--online-keys", house.online, "--embedded-broker", "--token-file", token]
    result = CliRunner().invoke(server, [str(one) for one in arguments])
    assert result.exit_code == 0, result.output
    assert "for trying out" in result.output
    assert token.read_text().strip() not in result.output
    secrets = [token, *(tmp_path / "fleet").glob("*.key"), tmp_path / "fleet" / "token.hash"]
    assert [stat.S_IMODE(file.stat().st_mode) for file in secrets] == [0o600] * len(secrets)
    checked = CliRunner().invoke(
        server, ["check", "--config", str(tmp_path / "fleet" / "server.toml"), "--json"]
    )
    assert checked.exit_code == 0, checked.output
    assert '"problem' not in checked.output


def test_check_names_every_problem_and_fails(tmp_path: Path) -> None:
    file = tmp_path / "server.toml"
    file.write_text("[mqtt]\nport = 1\n")
    result = CliRunner().invoke(server, ["check", "--config", str(file)])
    assert result.exit_code == 1
    for what in ("operator token", "authority", "repository", "online keys", "broker"):
        assert f"problem {what}" in result.output
    assert "ok      disk" in result.output


def test_init_touches_nothing_that_is_there(
    house: House, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "fleet"
    folder.mkdir()
    (folder / "mine").write_text("mine")
    arguments = ["server", "init", "--dir", folder, "--repo", house.repository.directory]
    token = tmp_path / "token"
    assert main([str(one) for one in [*arguments, "--token-file", token]]) == 2
    assert "it was not touched" in capsys.readouterr().err
    assert [file.name for file in folder.iterdir()] == ["mine"]
    assert not token.exists()
    assert not list(tmp_path.glob(".fleet*"))


def test_running_without_a_configuration_says_how_to_make_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["server", "run", "--config", str(tmp_path / "none.toml")]) == 2
    assert "whimbrel server init" in capsys.readouterr().err


def test_a_certificate_names_the_enrolled_device_whatever_the_request_says() -> None:
    authority = enrolment.Authority.create(NOW)
    pem = authority.enrol("ewr", csr(name="whimbrel-server"), NOW, 30)
    certificate = x509.load_pem_x509_certificate(pem.encode())
    assert certificate.subject.rfc4514_string() == "CN=ewr"
    assert certificate.not_valid_after_utc <= NOW + timedelta(days=30)
    certificate.verify_directly_issued_by(
        x509.load_pem_x509_certificate(authority.certificate_pem.encode())
    )


def swapped() -> str:
    """Return a request whose body was changed after it was signed."""
    import base64

    body = "".join(csr(name="aaaaaaaa").splitlines()[1:-1])
    data = base64.b64decode(body).replace(b"aaaaaaaa", b"bbbbbbbb")
    text = base64.encodebytes(data).decode()
    return f"-----BEGIN CERTIFICATE REQUEST-----\n{text}-----END CERTIFICATE REQUEST-----\n"


@pytest.mark.parametrize(
    ("device", "request_pem"),
    [
        ("ewr", ""),
        ("ewr", "garbage"),
        ("ewr", "x" * 100_000),
        ("ewr", swapped()),
        ("ewr", csr(key=rsa.generate_private_key(65537, 2048))),
        ("ewr", csr(key=ec.generate_private_key(ec.SECP256K1()))),
        ("EWR", csr()),
        ("fleet", csr()),
        ("whimbrel-server", csr()),
        ("a/b", csr()),
    ],
    ids=["empty", "garbage", "long", "changed", "rsa", "curve", "case", "word", "server", "slash"],
)
def test_a_bad_request_is_refused(device: str, request_pem: str) -> None:
    authority = enrolment.Authority.create(NOW)
    with pytest.raises(InputError):
        authority.enrol(device, request_pem, NOW, 30)


def test_an_authority_of_another_key_is_refused(tmp_path: Path) -> None:
    one, other = enrolment.Authority.create(NOW), enrolment.Authority.create(NOW)
    (tmp_path / "ca.crt").write_text(one.certificate_pem)
    (tmp_path / "ca.key").write_bytes(other.key_pem)
    with pytest.raises(TrustError, match="is not the key of"):
        enrolment.Authority.load(tmp_path / "ca.crt", tmp_path / "ca.key")


def test_enrolment_gives_a_device_all_it_needs_and_admits_it(house: House, tmp_path: Path) -> None:
    provision.make(
        provision.Plan(
            directory=tmp_path / "fleet",
            repository=house.repository.directory,
            online_keys=house.online,
        ),
        token_hash="unused",
        now=NOW,
    )
    fleet = Fleet(config.load(tmp_path / "fleet" / "server.toml", {}), env={})
    try:
        assert not fleet.knows("ewr")
        given = fleet.enrol("ewr", csr(), {"site": "nj"}, "operator")
        assert fleet.knows("ewr")
        assert given.root_json == house.repository.directory.joinpath(
            "metadata", "1.root.json"
        ).read_text("utf-8")
        assert (given.mqtt.port, given.mqtt.tls) == (8883, True)
        assert given.repository_url == "http://127.0.0.1:8500/repository"
        assert fleet.device("ewr").labels == {"site": "nj"}
        assert [entry.action for entry in fleet.audit()] == ["device.enrol"]
    finally:
        fleet.stop()


@pytest.mark.parametrize(
    "labels",
    [{"": "x"}, {"a=b": "c"}, {"k": "v" * 65}, {"k\n": "v"}, {f"k{i}": "v" for i in range(40)}],
)
def test_a_bad_label_is_refused(house: House, tmp_path: Path, labels: dict[str, str]) -> None:
    fleet = Fleet(settings_for(house, 1, tmp_path), env={})
    try:
        assert fleet.knows("ewr")
        with pytest.raises(InputError):
            fleet.label_device("ewr", labels, "operator")
        assert fleet.device("ewr").labels == {}
    finally:
        fleet.stop()


def test_what_does_not_exist_is_not_found(house: House, tmp_path: Path) -> None:
    made = house.publish("1.0.0")
    fleet = Fleet(settings_for(house, 1, tmp_path), env={})
    try:
        assert fleet.knows("ewr")
        for ask in (
            lambda: fleet.device("nobody"),
            lambda: fleet.model("nothing"),
            lambda: fleet.drift("nothing"),
            lambda: fleet.drift_series("churn", device="nobody"),
            lambda: fleet.drift_series("churn", feature="nothing"),
            lambda: fleet.histogram("churn", "1.0.0", "fleet", "nothing"),
            lambda: fleet.quality_series("churn", "9.9.9"),
            lambda: fleet.rollout(7),
            lambda: fleet.pause_rollout(7, "me"),
            lambda: fleet.acknowledge_alert(7, "me"),
            lambda: fleet.events("nobody"),
            lambda: fleet.assign("nobody", "churn", "churn", "1.0.0", "me"),
            lambda: fleet.assign("ewr", "churn", "churn", "9.9.9", "me"),
        ):
            with pytest.raises(UsageError) as caught:
                ask()
            assert caught.value.code == "not_found"
        assert made.digest == fleet.model("churn").versions[0].digest
    finally:
        fleet.stop()


def test_a_server_without_the_fleet_key_assigns_nothing(house: House, tmp_path: Path) -> None:
    house.publish("1.0.0")
    (house.online / "fleet.pem").unlink()
    fleet = Fleet(settings_for(house, 1, tmp_path), env={})
    try:
        assert fleet.knows("ewr")
        with pytest.raises(WhimbrelError, match="no fleet key"):
            fleet.assign("ewr", "churn", "churn", "1.0.0", "me")
        assert fleet.device("ewr").revision_desired == 0
    finally:
        fleet.stop()
