"""Judgements as rows: what a window (or a period of a group) says, and what is shown of it.

There is a row per device and window, so the payload is arrays without names, each number once.
"""

from __future__ import annotations

from typing import Any

import msgspec

from whimbrel_core.profile.distances import FeatureDrift
from whimbrel_core.profile.sequential import Observation
from whimbrel_server.domain import drift

_DRIFT_FIELDS = FeatureDrift.__struct_fields__
_OBSERVATION_FIELDS = Observation.__struct_fields__


class _Payload(msgspec.Struct, frozen=True, array_like=True):
    start_ms: int
    key: str
    end_ms: int
    rows: int
    drift: list[list[Any]]
    observation: list[Any] | None
    shown: list[list[Any]]


_DECODER = msgspec.msgpack.Decoder(_Payload)


class StoredJudgement(msgspec.Struct, frozen=True):
    """A judgement as it is stored. ``shown`` is empty until the history was replayed."""

    judged: drift.Judged
    shown: tuple[drift.Shown, ...] = ()

    def row(self, digest: str, subject: str, level: str) -> dict[str, object]:
        """Return it as a row of the table."""
        judged = self.judged
        return {
            "digest": digest,
            "subject": subject,
            "start_ms": judged.position.start_ms,
            "key": judged.position.key,
            "level": level,
            "end_ms": judged.end_ms,
            "rows": judged.rows,
            "worst": drift.worst_of(shown.level for shown in self.shown),
            "payload": self.encode(),
        }

    def encode(self) -> bytes:
        """Return the payload."""
        judged, seen = self.judged, self.judged.observation
        payload = _Payload(
            judged.position.start_ms,
            judged.position.key,
            judged.end_ms,
            judged.rows,
            [list(msgspec.structs.astuple(one)) for one in judged.drift],
            None if seen is None else list(msgspec.structs.astuple(seen)),
            [list(msgspec.structs.astuple(one))[1:] for one in self.shown],
        )
        return msgspec.msgpack.encode(payload)

    @staticmethod
    def decode(data: bytes) -> StoredJudgement:
        """Return the judgement in a payload."""
        payload = _DECODER.decode(data)
        drifts = tuple(
            FeatureDrift(**dict(zip(_DRIFT_FIELDS, one, strict=True))) for one in payload.drift
        )
        observation = None
        if payload.observation is not None:
            values = dict(zip(_OBSERVATION_FIELDS, payload.observation, strict=True))
            observation = Observation(**values)
        judged = drift.Judged(
            drift.Position(payload.start_ms, payload.key),
            payload.end_ms,
            payload.rows,
            drifts,
            observation,
        )
        shown = tuple(
            drift.Shown(one, *rest)
            for one, rest in zip(drifts, payload.shown, strict=bool(payload.shown))
        )
        return StoredJudgement(judged, shown)
