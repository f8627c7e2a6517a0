"""Configuration: TOML < environment < flags, and nothing unknown."""

from __future__ import annotations

import msgspec
import pytest

from whimbrel_core import config
from whimbrel_core.errors import ConfigError


class Mqtt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    host: str = "127.0.0.1"
    port: int = 1883


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    device_id: str
    mqtt: Mqtt = Mqtt()
    labels: dict[str, str] = {}
    tls: Mqtt | None = None
    peers: dict[str, Mqtt] = {}


def _load(text: str, env: dict[str, str] | None = None, **overrides: object) -> Settings:
    return config.load(
        Settings, text, env=env or {}, prefix="WHIMBREL_AGENT", origin="agent.toml",
        overrides=overrides,
    )  # fmt: skip


def test_the_environment_beats_the_file_and_a_flag_beats_both() -> None:
    text = 'device_id = "ewr"\n[mqtt]\nport = 1\nhost = "file"'
    env = {"WHIMBREL_AGENT__MQTT__PORT": "2", "OTHER__MQTT__PORT": "9"}
    assert _load(text, env).mqtt == Mqtt("file", 2)
    assert _load(text, env, **{"mqtt.port": 3}).mqtt == Mqtt("file", 3)
    assert _load(text, env, **{"mqtt.port": None}).mqtt == Mqtt("file", 2)


def test_a_section_that_names_what_the_operator_likes_takes_any_key() -> None:
    assert _load('device_id = "ewr"\n[labels]\nregion = "nyc"').labels == {"region": "nyc"}


@pytest.mark.parametrize(
    ("text", "env", "message", "hint"),
    [
        ('device_id="e"\n[mqtt]\nprot = 1', {}, "agent.toml: unknown key 'mqtt.prot'", "mqtt.port"),
        ('devic_id="e"', {}, "unknown key 'devic_id'", "device_id"),
        ('device_id="e"\n[tls]\nx=1', {}, "unknown key 'tls.x'", "known keys here: host, port"),
        ("", {"WHIMBREL_AGENT__MQQT__PORT": "1"}, "WHIMBREL_AGENT__MQQT__PORT", "mqtt"),
        ("device_id = ", {}, "agent.toml is not valid TOML", "correct agent.toml"),
        ('device_id="e"\n[mqtt]\nport="many"', {}, r"\$.mqtt.port", "default file"),
        ("", {}, "device_id", "default file"),
    ],
)
def test_a_mistake_is_refused_with_the_key_and_a_suggestion(
    text: str, env: dict[str, str], message: str, hint: str
) -> None:
    with pytest.raises(ConfigError, match=message.replace("[", r"\[")) as caught:
        _load(text, env)
    assert hint in (caught.value.hint or "")


def test_a_section_of_named_sections_takes_any_name_and_knows_their_keys() -> None:
    text = 'device_id = "ewr"\n[peers.lga]\nport = 2'
    assert _load(text).peers == {"lga": Mqtt(port=2)}
    assert _load(text, {"WHIMBREL_AGENT__PEERS__LGA__PORT": "3"}).peers == {"lga": Mqtt(port=3)}
    with pytest.raises(ConfigError, match=r"'peers\.lga\.prot'") as refused:
        _load('device_id = "ewr"\n[peers.lga]\nprot = 2')
    assert refused.value.hint == "did you mean 'peers.lga.port'?"


def test_a_variable_cannot_turn_a_value_into_a_section() -> None:
    with pytest.raises(ConfigError, match="is a value, not a section"):
        _load('device_id = "ewr"', {"WHIMBREL_AGENT__DEVICE_ID__X": "1"})
