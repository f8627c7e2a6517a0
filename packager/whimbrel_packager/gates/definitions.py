"""Feature definitions: what a feature store, or a file beside the code, says features are."""

from __future__ import annotations

from typing import Literal

import msgspec

from whimbrel_core.errors import InputError

Type = Literal["number", "integer", "boolean", "text", "other"]


class Feature(msgspec.Struct, frozen=True):
    """One feature as it is served.

    Args:
        name: without its view.
        type: what its values are; "other" for lists, times and whatever a model cannot read.
        view: the view that it belongs to; "" for none.
        ttl_s: for how many seconds a value is served before it counts as missing; None: for ever.
    """

    name: str
    type: Type
    view: str = ""
    ttl_s: float | None = None


class Definitions(msgspec.Struct, frozen=True):
    """All features that a model may be served with.

    Args:
        origin: where they were read, for messages.
        features: in order.
        join_keys: names of the columns that entities are looked up by.
    """

    origin: str
    features: tuple[Feature, ...]
    join_keys: tuple[str, ...] = ()

    def named(self, column: str) -> list[Feature]:
        """Return the features that a column may be: ``temp``, ``weather__temp``, ``weather:temp``."""
        whole = [
            f for f in self.features if f.view and column in {f"{f.view}__{f.name}",
                                                              f"{f.view}:{f.name}"}
        ]  # fmt: skip
        return whole or [f for f in self.features if f.name == column]


class _Declared(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    type: Type
    ttl_s: float | None = None


class _Schema(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    features: dict[str, _Declared]
    join_keys: tuple[str, ...] = ()


def from_schema(data: bytes, origin: str, *, toml: bool) -> Definitions:
    """Return the definitions in a schema file (TOML or JSON).

    ::

        join_keys = ["airport_id"]
        [features.temp]
        type = "number"      # number, integer, boolean or text
        ttl_s = 7200         # left out: served for ever

    Raises:
        InputError: it is not such a file.
    """
    try:
        decode = msgspec.toml.decode if toml else msgspec.json.decode
        schema = decode(data, type=_Schema)
    except (msgspec.DecodeError, ValueError) as error:
        raise InputError(
            f"{origin} is no file of feature definitions: {error}",
            hint="it has a table [features.NAME] with a type for each feature",
            code="input.features",
        ) from error
    features = tuple(Feature(n, d.type, "", d.ttl_s) for n, d in schema.features.items())
    return Definitions(origin, features, schema.join_keys)
