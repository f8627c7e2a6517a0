"""The configuration file, its documentation, and what is wrong with one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from whimbrel_agent import config
from whimbrel_agent.channel import ServingSettings
from whimbrel_core.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

MINIMAL = 'device_id = "lga-1"\n'


def load(folder: Path, text: str, env: dict[str, str] | None = None) -> config.Config:
    path = folder / "agent.toml"
    path.write_text(text)
    return config.load(path, env or {})


def test_the_shipped_file_states_every_key_and_its_default(tmp_path: Path) -> None:
    text = config.default_text().replace('device_id = ""', 'device_id = "lga-1"')
    loaded = load(tmp_path, text)
    assert loaded == config.Config(device_id="lga-1")

    def keys(kind: type[msgspec.Struct]) -> list[str]:
        return [field.name for field in msgspec.structs.fields(kind)]

    for name in keys(config.Config):
        assert f"\n{name} = " in text or f"[{name}]" in text
    for kind in (
        config.Mqtt,
        config.Repository,
        config.Http,
        config.Limits,
        config.Telemetry,
    ):
        section = text.split(f"[{kind.__name__.lower()}]")[1].split("\n[")[0]
        for name in keys(kind):
            assert f"\n{name} = " in section, f"{kind.__name__}.{name} is not documented"


def test_every_key_of_the_shipped_file_has_a_comment_above_it_or_above_its_group() -> None:
    lines = config.default_text().splitlines()
    assert sum(line.startswith("#") for line in lines) > 25


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "device_id"),
        ('device_id = "LGA 1"', "not a valid device id"),
        (MINIMAL + "[mqtt]\nhsot = 'x'", "unknown key 'mqtt.hsot'"),
        (MINIMAL + "[mqtt]\nport = 0", "mqtt.port is 0"),
        (MINIMAL + "[http]\nport = 70000", "http.port is 70000"),
        (MINIMAL + "[mqtt]\ncert = 'a.crt'", "mqtt.cert and mqtt.key belong together"),
        (MINIMAL + "[mqtt]\ncert = 'a'\nkey = 'b'", "without mqtt.ca"),
        (MINIMAL + "[limits]\nmax_rows = -1", "limits.max_rows is negative"),
        (MINIMAL + "[limits]\nmax_rows = 'many'", "max_rows"),
        (MINIMAL + "[telemetry]\nin_flight = 0", "telemetry.in_flight must be above zero"),
        (MINIMAL + "[telemetry]\nretry_s = 0.0", "telemetry.retry_s must be above zero"),
        (MINIMAL + "[limits]\nmax_connections = 0", "limits.max_connections must be above zero"),
        ("device_id = ", "not valid TOML"),
    ],
    ids=lambda value: str(value)[-24:].strip(),
)
def test_a_wrong_key_or_value_is_named_and_nothing_starts(
    tmp_path: Path, text: str, sentence: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert sentence in caught.value.message


def test_what_a_worker_is_told_has_the_same_defaults_and_follows_every_key(tmp_path: Path) -> None:
    assert load(tmp_path, MINIMAL).serving() == ServingSettings()
    told = load(
        tmp_path,
        MINIMAL + "[limits]\nmax_body_bytes = 1\nmax_rows = 2\nmax_header_bytes = 3\n"
        "max_connections = 4\ninline_us = 5.0\n"
        "[telemetry]\nprofiles = false\nlateness_s = 6.0\nidle_close_s = 7.0\n"
        "label_capacity = 8\nretry_s = 9.0",
    ).serving()
    assert told == ServingSettings(
        max_body_bytes=1,
        max_rows=2,
        max_header_bytes=3,
        max_connections=4,
        inline_us=5.0,
        profiles=False,
        lateness_s=6.0,
        idle_close_s=7.0,
        label_capacity=8,
        telemetry_retry_s=9.0,
    )
    assert all(
        getattr(told, name) != getattr(ServingSettings(), name)
        for name in ServingSettings.__struct_fields__
    ), "a setting of the worker that no key of the file reaches"


def test_the_environment_goes_before_the_file(tmp_path: Path) -> None:
    loaded = load(
        tmp_path,
        MINIMAL + "[mqtt]\nport = 1",
        {"WHIMBREL_AGENT__MQTT__PORT": "8883", "WHIMBREL_AGENT__MQTT__HOST": "hub"},
    )
    assert (loaded.mqtt.host, loaded.mqtt.port) == ("hub", 8883)


def test_relative_paths_are_taken_from_the_files_own_folder(tmp_path: Path) -> None:
    loaded = load(
        tmp_path,
        MINIMAL + 'data_dir = "data"\nroot = "trust/root.json"\n'
        '[mqtt]\nca = "ca.crt"\n[repository]\nurl = "../usb"',
    )
    assert loaded.data_dir == str(tmp_path / "data")
    assert loaded.root == str(tmp_path / "trust/root.json")
    assert loaded.mqtt.ca == str(tmp_path / "ca.crt")
    assert loaded.mqtt.cert == ""
    assert loaded.repository.url == str(tmp_path / "../usb")
    web = load(tmp_path, MINIMAL + '[repository]\nurl = "https://models.example/r"')
    assert web.repository.url == "https://models.example/r"


def test_a_file_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        config.load(tmp_path / "none.toml", {})
