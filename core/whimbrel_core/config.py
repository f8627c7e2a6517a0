r"""Configuration: TOML text < environment variables < flags, into one frozen struct.

The loader is pure: the caller reads the file and hands over the environment. Unknown keys are
refused with a suggestion, because a mistyped limit that is silently ignored is found in the field.

>>> class Mqtt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
...     host: str = "127.0.0.1"
...     port: int = 1883
>>> class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
...     mqtt: Mqtt = Mqtt()
>>> load(Config, "[mqtt]\nport = 8883", env={"WHIMBREL_AGENT__MQTT__HOST": "hub"},
...      prefix="WHIMBREL_AGENT", origin="agent.toml").mqtt
Mqtt(host='hub', port=8883)
"""

from __future__ import annotations

import difflib
import sys
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from whimbrel_core.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover - the 3.10 tier runs it
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T", bound=msgspec.Struct)


def load(
    kind: type[T],
    text: str,
    *,
    env: Mapping[str, str],
    prefix: str,
    origin: str,
    overrides: Mapping[str, object] | None = None,
) -> T:
    """Return a ``kind`` from TOML ``text``, then ``PREFIX__SECTION__KEY`` variables, then flags.

    Args:
        kind: a frozen struct of structs; fields are the keys.
        text: the TOML file's content ("" when there is none).
        env: environment variables; only those that start with ``prefix + "__"`` are read.
        prefix: for example ``WHIMBREL_AGENT``.
        origin: what to call the file in messages.
        overrides: dotted keys to values, from flags; None values are passed over.

    Raises:
        ConfigError: naming the key and where it was set. Nothing was started.
    """
    try:
        tree: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        msg = f"{origin} is not valid TOML: {error}"
        raise ConfigError(msg, hint=f"correct {origin}; nothing was started") from error
    _refuse_unknown(kind, tree, origin, ())
    for name in sorted(env):
        if name.startswith(prefix + "__"):
            path = tuple(part.lower() for part in name[len(prefix) + 2 :].split("__"))
            _set(kind, tree, path, env[name], name)
    for dotted, value in (overrides or {}).items():
        if value is not None:
            _set(kind, tree, tuple(dotted.split(".")), value, f"--{dotted}")
    try:
        # strict=False lets "8883" from the environment become 8883.
        return msgspec.convert(tree, kind, strict=False)
    except msgspec.ValidationError as error:
        msg = f"{origin}: {error}"
        raise ConfigError(msg, hint="see the commented default file for the key's type") from error


def _set(
    kind: type[Any], tree: dict[str, Any], path: tuple[str, ...], value: object, where: str
) -> None:
    node: Any = tree
    for i, part in enumerate(path[:-1]):
        node = node.setdefault(part, {})
        if not isinstance(node, dict):
            msg = f"{where}: {'.'.join(path[: i + 1])} is a value, not a section"
            raise ConfigError(msg)
    if isinstance(node, dict):
        node[path[-1]] = value
    probe: Any = value
    for part in reversed(path):
        probe = {part: probe}
    _refuse_unknown(kind, probe, where, ())


def _refuse_unknown(kind: Any, tree: Mapping[str, Any], origin: str, at: tuple[str, ...]) -> None:  # noqa: ANN401 - walks typing objects
    fields = {f.encode_name: f for f in msgspec.structs.fields(kind)}
    for key, value in tree.items():
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1)
            dotted = ".".join((*at, key))
            hint = (
                f"did you mean {'.'.join((*at, near[0]))!r}?"
                if near
                else (f"known keys here: {', '.join(sorted(fields))}")
            )
            msg = f"{origin}: unknown key {dotted!r}"
            raise ConfigError(msg, hint=hint, code="config.unknown_key")
        inner = _struct_in(fields[key].type)
        if inner is not None and isinstance(value, list):  # [[section.key]]: tables in a row
            for one in value:
                if isinstance(one, dict):
                    _refuse_unknown(inner, one, origin, (*at, key))
        if inner is None or not isinstance(value, dict):
            continue
        if _is_table(fields[key].type):  # its keys are names that people give
            for name, one in value.items():
                if isinstance(one, dict):
                    _refuse_unknown(inner, one, origin, (*at, key, name))
        else:
            _refuse_unknown(inner, value, origin, (*at, key))


def _is_table(annotation: Any) -> bool:  # noqa: ANN401 - walks typing objects
    """Return whether it is ``dict[str, Struct]``."""
    return getattr(annotation, "__origin__", None) is dict


def _struct_in(annotation: Any) -> type[Any] | None:  # noqa: ANN401 - walks typing objects
    """Return the struct in ``Struct``, ``Struct | None`` or ``dict[str, Struct]``, else None."""
    candidates = (annotation, *getattr(annotation, "__args__", ()))
    for candidate in candidates:
        if isinstance(candidate, type) and issubclass(candidate, msgspec.Struct):
            return candidate
    return None
