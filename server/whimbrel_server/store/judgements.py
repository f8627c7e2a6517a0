"""Judgements as rows: what a window (or a period of a group) says, and what is shown of it.

There is a row per device and window, so a payload is columns over the features, as bytes: they are
written and replayed as arrays (`Kept`, `Said`), and become objects where somebody reads them
(`StoredJudgement`). Distances are kept as float32.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np
import sqlalchemy as sa

from whimbrel_core.profile.drift.drifts import Drifts, grade, named_drifts
from whimbrel_core.profile.drift.findings import Finding, Inspector
from whimbrel_core.profile.feature import Role
from whimbrel_core.profile.quality.loss import cells
from whimbrel_core.profile.watching import alarms
from whimbrel_core.profile.watching.evidence import NEVER
from whimbrel_core.profile.watching.judging import Seen, Told
from whimbrel_server.store import schema
from whimbrel_server.store.policies import policy_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from whimbrel_core.profile.flat import FlatWindow
    from whimbrel_core.profile.watching.judging import DeviceJudge

    Counts = NDArray[np.int64]
    Floats = NDArray[np.float64]

_DISTANCES = (
    "p_value", "psi", "js", "ks", "w1_sd", "null_rate", "null_shift", "null_p_value", "other_shift",
)  # fmt: skip
_TINY = float(np.finfo(np.float32).tiny)


class Kept(msgspec.Struct, frozen=True, array_like=True):
    """What one window says by itself.

    Args:
        features: name and role of each, as msgpack.
        finite: (F,) int64 finite values.
        distances: (9, F) float32, in the order of `Drifts`; NaN: does not apply.
        significant: (F,) a byte each.
        levels: (F,) int8, index into LEVELS; −1: too few rows.
        values: (K,) float64, what a detector sees, if the window has enough rows for its policy;
            None for a group.
        variances: (K,) float64, likewise.
        scores: what quality is expected from, as `whimbrel_core.profile.quality.loss.cells` gives it.
        findings: what is wrong with the data.
        requests: that were answered, as `requests_of` counts them.
    """

    start_ms: int
    key: str
    end_ms: int
    rows: int
    features: msgspec.Raw
    finite: bytes
    distances: bytes
    significant: bytes
    levels: bytes
    values: bytes | None = None
    variances: bytes | None = None
    scores: tuple[int, ...] = ()
    findings: tuple[Finding, ...] = ()
    requests: int = 0

    @property
    def position(self) -> alarms.Position:
        """Where the window stands in its device's history."""
        return alarms.Position(self.start_ms, self.key)


class Said(msgspec.Struct, frozen=True, array_like=True):
    """What is shown of one window: ``levels`` (F,) int8, and for devices `Told` of the detector.

    ``threshold`` is None for a group, of which no detector tells. ``policy`` names what it was
    judged under (`whimbrel_server.store.policies`).
    """

    levels: bytes
    threshold: float | None = None
    log_e: bytes = b""
    alarms: bytes = b""
    since_ms: bytes = b""
    components: tuple[str, ...] = ()
    policy: str = ""


class _Payload(NamedTuple):
    kept: Kept
    said: Said


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(_Payload)
_FEATURES = msgspec.msgpack.Decoder(list[tuple[str, Role]])


def keep(
    judge: DeviceJudge,
    windows: Sequence[FlatWindow],
    positions: Sequence[alarms.Position],
    drifts: Drifts,
    seen: Seen | None,
) -> list[Kept]:
    """Return what N windows say by themselves. ``seen``: None for groups."""
    layout = judge.baseline.layout
    features = msgspec.Raw(_ENCODER.encode([(one.name, one.role) for one in layout.features]))
    # A p value too small for float32 is still not nothing.
    columns = [getattr(drifts, name) for name in _DISTANCES]
    columns = [np.where((one > 0) & (one < _TINY), _TINY, one) for one in columns]
    distances = np.stack(columns, axis=1).astype("<f4")
    finite, significant = drifts.rows.astype("<i8"), drifts.significant.astype(np.uint8)
    levels = drifts.level.astype(np.int8)
    wrong = _inspector(judge).inspect_all(windows)
    found = []
    for n, (window, position) in enumerate(zip(windows, positions, strict=True)):
        found.append(
            Kept(
                position.start_ms,
                position.key,
                window.end_ms,
                window.rows,
                features,
                finite[n].tobytes(),
                distances[n].tobytes(),
                significant[n].tobytes(),
                levels[n].tobytes(),
                None if seen is None else seen.values[n].astype("<f8", copy=False).tobytes(),
                None if seen is None else seen.variances[n].astype("<f8", copy=False).tobytes(),
                cells(window, judge.baseline),
                wrong[n],
                requests_of(window),
            )
        )
    return found


def requests_of(window: FlatWindow) -> int:
    """Return how often a window's model was asked: in rows, where those do not come as requests."""
    return window.ops.requests or window.rows


@lru_cache(maxsize=64)
def _inspector(judge: DeviceJudge) -> Inspector:
    return Inspector(judge.baseline, judge.policy.thresholds)


def say(judge: DeviceJudge, told: Told, chosen: Sequence[int]) -> list[Said]:
    """Return what is shown of the ``chosen`` ones of N windows of devices."""
    rows = np.array(chosen, np.intp)
    levels, alarms = told.levels[rows].astype(np.int8), told.alarms[rows].astype(np.uint8)
    log_e, since = told.log_e[rows].astype("<f4"), told.since_ms[rows].astype("<i8")
    names, policy = judge.components, policy_id(judge.policy)
    return [
        Said(
            levels[n].tobytes(),
            judge.threshold,
            log_e[n].tobytes(),
            alarms[n].tobytes(),
            since[n].tobytes(),
            tuple([names[component] for component in components]),
            policy,
        )
        for n, components in enumerate(told.components[rows].tolist())
    ]


def said_of_group(judge: DeviceJudge, levels: Counts) -> Said:
    """Return what is shown of a group's period, of which no detector tells: ``levels`` (F,)."""
    return Said(levels.astype(np.int8).tobytes(), policy=policy_id(judge.policy))


def effects_of(kept: Kept) -> tuple[Counts, Floats, Floats]:
    """Return levels, PSI and W1 of a kept window or period, (F,) each."""
    levels = np.frombuffer(kept.levels, np.int8).astype(np.int64)
    distances = np.frombuffer(kept.distances, "<f4").astype(np.float64).reshape(-1, len(levels))
    named = dict(zip(_DISTANCES, distances, strict=True))
    return levels, named["psi"], named["w1_sd"]


def seen_of(judge: DeviceJudge, history: Sequence[Kept]) -> Seen:
    """Return what was kept of N windows as arrays, to replay it."""
    features, k = len(judge.baseline.layout.features), len(judge.components)
    nothing = np.full(k, np.nan).tobytes()
    least = judge.policy.thresholds.min_rows
    observed = [one.values is not None and one.rows >= least for one in history]
    values, variances = (
        np.frombuffer(b"".join(some), "<f8").reshape(-1, k)
        for some in (
            [one.values or nothing for one in history],
            [one.variances or nothing for one in history],
        )
    )
    levels = np.frombuffer(b"".join(one.levels for one in history), np.int8)
    return Seen(
        [one.position for one in history],
        levels.astype(np.int64).reshape(-1, features),
        np.array(observed, bool),
        values,
        variances,
    )


def regraded(judge: DeviceJudge, history: Sequence[Kept]) -> list[Kept]:
    """Return what N windows say by themselves under the thresholds of ``judge``.

    Their distances are what they were; which of them are evident, and what level they have, is
    found anew. Under the thresholds that they were judged by, they come out as they went in, but
    where a distance lies within a ten-millionth of a limit: they are kept as float32.
    """
    if not history:
        return []
    features = len(judge.baseline.layout.features)
    columns = np.frombuffer(b"".join(one.distances for one in history), "<f4")
    columns = columns.reshape(len(history), len(_DISTANCES), features).astype(np.float64)
    finite = np.frombuffer(b"".join(one.finite for one in history), "<i8").reshape(-1, features)
    blank = np.zeros(finite.shape, bool)
    drifts = Drifts(
        rows=finite,
        **{name: columns[:, n] for n, name in enumerate(_DISTANCES)},
        significant=blank,
        level=finite,
    )
    rows = np.array([one.rows for one in history], np.int64)
    significant, levels = grade(drifts, rows, judge.policy.thresholds)
    return [
        msgspec.structs.replace(one, significant=evident.tobytes(), levels=level.tobytes())
        for one, evident, level in zip(
            history, significant.astype(np.uint8), levels.astype(np.int8), strict=True
        )
    ]


def row(kept: Kept, said: Said, digest: str, subject: str, level: str) -> dict[str, object]:
    """Return a judgement as a row of the table."""
    worst = int(np.frombuffer(said.levels, np.int8).max(initial=-1))
    return {
        "digest": digest,
        "subject": subject,
        "start_ms": kept.start_ms,
        "key": kept.key,
        "level": level,
        "end_ms": kept.end_ms,
        "rows": kept.rows,
        "worst": alarms.STATES[worst + 1],
        "payload": _ENCODER.encode((kept, said)),
    }


def read(payload: bytes) -> tuple[Kept, Said]:
    """Return what a stored window says by itself, and what is shown of it."""
    found = _DECODER.decode(payload)
    return found.kept, found.said


def kept_in(payload: bytes) -> Kept:
    """Return what a stored window says by itself."""
    return _DECODER.decode(payload).kept


def upto(digest: str, subject: str, position: alarms.Position) -> sa.ColumnElement[bool]:
    """Return the condition of a subject's windows up to and including the one at ``position``."""
    table = schema.judgements
    return sa.and_(
        table.c.digest == digest,
        table.c.subject == subject,
        sa.or_(
            table.c.start_ms < position.start_ms,
            sa.and_(table.c.start_ms == position.start_ms, table.c.key <= position.key),
        ),
    )


def history(
    connection: sa.Connection, digest: str, subject: str, position: alarms.Position
) -> list[tuple[Kept, Said]]:
    """Return what is stored of a subject's windows up to ``position``, in the order of time."""
    table = schema.judgements
    payloads = connection.execute(
        sa.select(table.c.payload)
        .where(upto(digest, subject, position))
        .order_by(table.c.start_ms, table.c.key)
    ).scalars()
    return [read(payload) for payload in payloads]


def policy_in(payload: bytes) -> str:
    """Return the name of the policy that a stored window was judged under."""
    return _DECODER.decode(payload).said.policy


class StoredJudgement(msgspec.Struct, frozen=True):
    """A judgement as objects, for whoever shows it."""

    judged: alarms.Judged
    shown: tuple[alarms.Shown, ...] = ()
    scores: tuple[int, ...] = ()
    findings: tuple[Finding, ...] = ()

    @staticmethod
    def decode(payload: bytes) -> StoredJudgement:
        """Return the judgement in a payload of the table."""
        kept, said = _DECODER.decode(payload)
        return judgement(kept, said)


def judgement(kept: Kept, said: Said) -> StoredJudgement:
    """Return a judgement as objects. What the detector sees of it is not among them."""
    finite = np.frombuffer(kept.finite, "<i8")
    distances = np.frombuffer(kept.distances, "<f4").astype(np.float64).reshape(-1, len(finite))
    drifts = Drifts(
        rows=finite,
        **dict(zip(_DISTANCES, distances, strict=True)),
        significant=np.frombuffer(kept.significant, np.uint8).astype(bool),
        level=np.frombuffer(kept.levels, np.int8).astype(np.int64),
    )
    named = named_drifts(_FEATURES.decode(kept.features), drifts)
    levels = [alarms.STATES[level + 1] for level in np.frombuffer(said.levels, np.int8).tolist()]
    if said.threshold is None:
        shown = tuple(alarms.Shown(one, level) for one, level in zip(named, levels, strict=True))
    else:
        shown = tuple(
            alarms.Shown(
                one, level, log_e, said.threshold, bool(alarm),
                None if since_ms == NEVER else since_ms, component,
            )
            for one, level, log_e, alarm, since_ms, component in zip(
                named,
                levels,
                np.frombuffer(said.log_e, "<f4").tolist(),
                said.alarms,
                np.frombuffer(said.since_ms, "<i8").tolist(),
                said.components,
                strict=True,
            )
        )  # fmt: skip
    judged = alarms.Judged(kept.position, kept.end_ms, kept.rows, named)
    return StoredJudgement(judged, shown, kept.scores, kept.findings)
