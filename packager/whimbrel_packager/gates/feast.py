"""Feast's registry, read without Feast.

Feast is 67 packages of 440 MB and wants a newer protobuf than the converters here can live with, so
its registry file is read by the message numbers of ``feast/protos/feast/core`` (0.67; numbers of a
protobuf never change their meaning). Only names, types, keys and ages are read: the code of
on-demand views is in the file as a pickle, and stays there.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from whimbrel_core.errors import InputError, UsageError
from whimbrel_packager.gates.definitions import Definitions, Feature, Type
from whimbrel_packager.gates.outcome import named

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Message = Any  # protobuf makes its classes when it runs

_TYPES: dict[int, Type] = {
    2: "text", 3: "integer", 4: "integer", 5: "number", 6: "number", 7: "boolean", 36: "text",
    37: "text",
}  # fmt: skip
_NO_ENTITY = "__dummy"  # Feast's own entity of views that have none
_STRING, _MESSAGE, _ENUM = 9, 11, 14
_DURATION = ".google.protobuf.Duration"
_OPTIONAL, _REPEATED = 1, 3

# message → field → (number, type or message, repeated)
_MESSAGES: dict[str, dict[str, tuple[int, int | str, bool]]] = {
    "FeatureSpecV2": {"name": (1, _STRING, False), "value_type": (2, _ENUM, False)},
    "EntitySpecV2": {
        "name": (1, _STRING, False), "project": (9, _STRING, False),
        "join_key": (4, _STRING, False),
    },
    "Entity": {"spec": (1, "EntitySpecV2", False)},
    "FeatureViewSpec": {
        "name": (1, _STRING, False), "project": (2, _STRING, False),
        "entities": (3, _STRING, True), "features": (4, "FeatureSpecV2", True),
        "ttl": (6, _DURATION, False),
    },
    "FeatureView": {"spec": (1, "FeatureViewSpec", False)},
    "StreamFeatureViewSpec": {
        "name": (1, _STRING, False), "project": (2, _STRING, False),
        "entities": (3, _STRING, True), "features": (4, "FeatureSpecV2", True),
        "ttl": (9, _DURATION, False),
    },
    "StreamFeatureView": {"spec": (1, "StreamFeatureViewSpec", False)},
    "OnDemandFeatureViewSpec": {
        "name": (1, _STRING, False), "project": (2, _STRING, False),
        "features": (3, "FeatureSpecV2", True),
    },
    "OnDemandFeatureView": {"spec": (1, "OnDemandFeatureViewSpec", False)},
    "FeatureViewProjection": {
        "feature_view_name": (1, _STRING, False), "feature_view_name_alias": (3, _STRING, False),
        "feature_columns": (2, "FeatureSpecV2", True),
    },
    "FeatureServiceSpec": {
        "name": (1, _STRING, False), "project": (2, _STRING, False),
        "features": (3, "FeatureViewProjection", True),
    },
    "FeatureService": {"spec": (1, "FeatureServiceSpec", False)},
    "Registry": {
        "entities": (1, "Entity", True), "feature_views": (6, "FeatureView", True),
        "on_demand_feature_views": (8, "OnDemandFeatureView", True),
        "stream_feature_views": (14, "StreamFeatureView", True),
        "feature_services": (7, "FeatureService", True),
    },
}  # fmt: skip
_ENUM_NAMES = {
    "INVALID": 0, "BYTES": 1, "STRING": 2, "INT32": 3, "INT64": 4, "DOUBLE": 5, "FLOAT": 6,
    "BOOL": 7, "UNIX_TIMESTAMP": 8, "UUID": 36, "TIME_UUID": 37,
}  # fmt: skip


def read(
    data: bytes, origin: str, *, service: str = "", views: Sequence[str] = (), project: str = ""
) -> Definitions:
    """Return the features of a registry file.

    Args:
        data: ``registry.db`` (protobuf), or what ``feast registry-dump`` prints (JSON).
        origin: its name for messages.
        service: feature service that is meant; "": the views.
        views: feature views that are meant; empty: all.
        project: that is meant, when there are several.

    Raises:
        InputError: it is no registry.
        UsageError: it has no such service, view or project.
    """
    registry = _parsed(data, origin)
    known = {
        view.spec.name: view
        for view in (
            *registry.feature_views,
            *registry.stream_feature_views,
            *registry.on_demand_feature_views,
        )
        if not project or view.spec.project in {"", project}
    }
    if not known:
        which = f" of project {project!r}" if project else ""
        raise UsageError(f"{origin} has no feature views{which}", hint="run 'feast apply' first")
    chosen: list[tuple[Message, str, Sequence[Message]]] = []
    if service:
        services = {s.spec.name: s for s in registry.feature_services}
        if service not in services:
            raise UsageError(f"{origin} has no feature service {service!r}",
                             hint=f"it has {named(sorted(services)) or 'none'}")  # fmt: skip
        for projection in services[service].spec.features:
            view = _one(known, projection.feature_view_name, origin)
            called = projection.feature_view_name_alias or projection.feature_view_name
            chosen.append((view, called, projection.feature_columns))
    else:
        for name in views or known:
            view = _one(known, name, origin)
            chosen.append((view, name, view.spec.features))
    keys = {entity.spec.name: entity.spec.join_key for entity in registry.entities}
    joined = {
        keys.get(name, name)
        for view, _, _ in chosen
        for name in getattr(view.spec, "entities", ())
        if name != _NO_ENTITY
    }
    features = tuple(f for view, called, fields in chosen for f in _features(view, called, fields))
    return Definitions(origin, features, tuple(sorted(joined)))


def _features(view: Message, called: str, fields: Sequence[Message]) -> Iterator[Feature]:
    ttl = view.spec.ttl if hasattr(view.spec, "ttl") else None
    seconds = ttl.seconds + ttl.nanos / 1e9 if ttl is not None else 0.0
    for field in fields:
        kind: Type = _TYPES.get(field.value_type, "other")
        yield Feature(field.name, kind, called, seconds or None)  # Feast: 0 is for ever


def _one(known: dict[str, Message], name: str, origin: str) -> Message:
    if name not in known:
        raise UsageError(f"{origin} has no feature view {name!r}",
                         hint=f"it has {named(sorted(known))}")  # fmt: skip
    return known[name]


def _parsed(data: bytes, origin: str) -> Message:
    from google.protobuf import json_format
    from google.protobuf.message import DecodeError

    registry = _registry_class()()
    try:
        if data.lstrip()[:1] == b"{":
            json_format.Parse(data, registry, ignore_unknown_fields=True)
        else:
            registry.ParseFromString(data)
    except (DecodeError, json_format.ParseError, UnicodeDecodeError) as error:
        raise InputError(
            f"{origin} is no registry of Feast: {error}",
            hint="give registry.db, or what 'feast registry-dump' prints; of an SQL registry only "
            "the latter",
            code="input.features",
        ) from error
    return registry


@cache
def _registry_class() -> Any:  # noqa: ANN401 - protobuf makes its classes when it runs
    """Return the class of the registry's message, of the fields that are read here."""
    from google.protobuf import descriptor_pb2, descriptor_pool, duration_pb2, message_factory

    package, duration = "whimbrel.feast", duration_pb2.DESCRIPTOR
    file = descriptor_pb2.FileDescriptorProto(
        name="whimbrel/feast.proto", package=package, syntax="proto3", dependency=[duration.name]
    )
    kinds = file.enum_type.add(name="ValueType")
    for name, number in _ENUM_NAMES.items():
        kinds.value.add(name=name, number=number)
    for message, fields in _MESSAGES.items():
        made = file.message_type.add(name=message)
        for name, (number, kind, many) in fields.items():
            field = made.field.add(name=name, number=number)
            field.label = _REPEATED if many else _OPTIONAL
            field.type = _MESSAGE if isinstance(kind, str) else kind
            if isinstance(kind, str):
                field.type_name = kind if kind == _DURATION else f".{package}.{kind}"
            elif kind == _ENUM:
                field.type_name = f".{package}.ValueType"
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(duration.serialized_pb)
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.Registry"))
