"""Train/serve skew: the training frame against what features are defined to be, and are served as.

Two questions. Are the model's inputs the features that will be served: by name, type, entity and
age? And do served values look like those it was trained on? The second is judged with the
statistics of the fleet (`whimbrel_core.profile.drift.judge`): effect and evidence, both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from whimbrel_core.bundle.datatypes import RANGES
from whimbrel_core.errors import ProfileError
from whimbrel_core.profile.counting.accumulator import Accumulator
from whimbrel_core.profile.counting.cells import cells_of
from whimbrel_core.profile.descriptors import describer
from whimbrel_core.profile.drift.judge import Judge
from whimbrel_packager import frame as frames
from whimbrel_packager.gates.outcome import Outcome, Part, limit, named, number, refused, unjudged

if TYPE_CHECKING:
    from collections.abc import Iterator

    from whimbrel_core.profile.baseline import Baseline
    from whimbrel_core.profile.drift.drifts import FeatureDrift
    from whimbrel_packager.frame import Frame
    from whimbrel_packager.gates.context import Context
    from whimbrel_packager.gates.definitions import Definitions, Feature

    Array = np.ndarray[Any, Any]

KIND = "skew"
# What a served value may be, by the datatype of the input that it goes into. A float into an
# integer input is refused, or cut off without a word.
_FITS: dict[str, set[str]] = {
    **{name: {"number", "integer", "boolean"} for name in ("FP32", "FP64")},
    **{name: {"integer", "boolean"} for name in (*RANGES, "BOOL")},
    "BYTES": {"text"},
}


class Skew(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where features are defined and sampled, and how far they may be from the training frame.

    Args:
        definitions: a Feast registry (``registry.db``), a feature repository with one
            (``feature_store.yaml``), ``feast registry-dump`` (.json), or a schema file (.toml).
        service: feature service of Feast whose features are meant; "": those of ``views``.
        views: feature views that are meant; empty: all.
        project: of the registry, where it holds several.
        local: inputs that the application computes, and no store serves.
        entities: join keys that the features must be looked up by; empty: not checked.
        max_ttl_s: age up to which a served value may be used; None: not checked.
        serving: a sample of served features (.parquet, .csv, a folder of either, or .npz),
            columns as in training.
        max_psi: population stability index that a column of it may have, debiased.
        max_js: Jensen–Shannon distance that it may have; None: not judged.
        max_null_shift: by how much the share of missing values may differ.
        min_rows: of the sample, without which nothing is said.
    """

    definitions: str = ""
    service: str = ""
    views: tuple[str, ...] = ()
    project: str = ""
    local: tuple[str, ...] = ()
    entities: tuple[str, ...] = ()
    max_ttl_s: float | None = None
    serving: str = ""
    max_psi: float = 0.1
    max_js: float | None = None
    max_null_shift: float = 0.05
    min_rows: int = 200


def judge(declared: Skew, context: Context) -> Iterator[Outcome]:
    """Yield the outcomes of both questions, as far as they are asked."""
    if context.definitions is not None:
        yield from _defined(declared, context, context.definitions)
    if context.serving is not None and context.profile is not None:
        yield from _served(declared, context, context.serving, context.profile)


def _defined(declared: Skew, context: Context, defined: Definitions) -> Iterator[Outcome]:
    wanted = [name for name in context.inputs if name not in declared.local]
    found = {name: defined.named(name) for name in wanted}
    absent = [name for name, features in found.items() if not features]
    many = [name for name, features in found.items() if len(features) > 1]
    told = [f"{named(absent)} not defined in {defined.origin}"] if absent else []
    told += [f"{named(many)} defined in more than one view: name the view"] if many else []
    yield limit(
        "skew.names", KIND, len(absent) + len(many), 0,
        message="; ".join(told) or f"all {len(wanted)} inputs are defined in {defined.origin}",
        parts=[Part(name, held=False) for name in (*absent, *many)],
    )  # fmt: skip
    single: dict[str, Feature] = {n: fs[0] for n, fs in found.items() if len(fs) == 1}
    odd = [
        f"{name} is served as {feature.type}, and the model reads {context.inputs[name]}"
        for name, feature in single.items()
        if feature.type not in _FITS.get(context.inputs[name], set())
    ]
    yield limit("skew.types", KIND, len(odd), 0,
                message=named(odd, 3) or f"{len(single)} types fit the model's inputs")  # fmt: skip
    keys = set(defined.join_keys)
    read = sorted(keys & set(context.inputs))
    wrong = [f"the model reads the join key {named(read)} as a feature"] if read else []
    if declared.entities and keys != set(declared.entities):
        wrong.append(
            f"features are looked up by {named(sorted(keys)) or 'nothing'}, the recipe says "
            f"{named(sorted(declared.entities))}"
        )
    yield limit("skew.entities", KIND, len(wrong), 0,
                message="; ".join(wrong) or f"looked up by {named(sorted(keys)) or 'nothing'}")  # fmt: skip
    if declared.max_ttl_s is not None:
        yield _freshness(declared.max_ttl_s, single)


def _freshness(most_s: float, single: dict[str, Feature]) -> Outcome:
    ages = {name: float("inf") if f.ttl_s is None else f.ttl_s for name, f in single.items()}
    old = sorted((name for name, age in ages.items() if age > most_s), key=lambda n: -ages[n])
    told = [
        f"{name} is served {'for ever' if np.isinf(ages[name]) else f'for {number(ages[name])} s'}"
        for name in old
    ]
    return Outcome(
        "skew.freshness", KIND, held=not old, measured=max(ages.values(), default=0.0),
        rule="at most", threshold=most_s, unit="s",
        message=named(told, 3) or f"no value is served for longer than {number(most_s)} s",
        parts=tuple(Part(name, measured=ages[name], held=False) for name in old),
    )  # fmt: skip


def _served(
    declared: Skew, context: Context, serving: Frame, profile: Baseline
) -> Iterator[Outcome]:
    absent = [name for name in context.inputs if name not in serving.columns]
    if absent:
        yield refused("skew.serving", KIND, f"the serving sample has no column {named(absent)}")
        return
    if serving.rows < declared.min_rows:
        yield unjudged(
            "skew.serving", KIND,
            f"{serving.rows} served rows are too few, {declared.min_rows} are needed", serving.rows,
        )  # fmt: skip
        return
    try:
        drifts = drifts_of(profile, serving.select(list(context.inputs), what="the model"))
    except ProfileError as error:
        yield refused("skew.serving", KIND, f"the serving sample: {error.message}")
        return
    if not drifts:
        yield refused("skew.serving", KIND, "the serving sample holds words where the model reads "
                      "numbers, or numbers where it reads words")  # fmt: skip
        return
    yield _distance(declared.max_psi, "psi", "PSI", drifts, serving.rows)
    if declared.max_js is not None:
        yield _distance(declared.max_js, "js", "Jensen–Shannon distance", drifts, serving.rows)
    moved = sorted(drifts, key=lambda d: -abs(d.null_shift))
    most = declared.max_null_shift
    bad = [d for d in moved if abs(d.null_shift) > most and d.null_p_value < _DOUBT]
    worst = bad[0] if bad else moved[0]
    yield Outcome(
        "skew.null", KIND, held=not bad, measured=abs(worst.null_shift), rule="at most",
        threshold=most, rows=serving.rows, unit="share",
        message=f"missing values of {worst.feature!r}: {worst.null_rate:.1%} served, "
        f"{worst.null_rate - worst.null_shift:.1%} in training",
        parts=tuple(Part(d.feature, d.rows, abs(d.null_shift), held=d not in bad) for d in moved[:_SHOWN]),
    )  # fmt: skip


_DOUBT = 0.01
_SHOWN = 16


def _distance(most: float, field: str, what: str, drifts: list[FeatureDrift], rows: int) -> Outcome:
    known = [(float(getattr(d, field)), d) for d in drifts if getattr(d, field) is not None]
    ordered = sorted(known, key=lambda pair: -pair[0])
    bad = [d for value, d in known if value > most and (d.p_value or 0.0) < _DOUBT]
    if not ordered:
        return unjudged(f"skew.{field}", KIND, "no served value can be compared", rows)
    worst = next((pair for pair in ordered if pair[1] in bad), ordered[0])
    return Outcome(
        f"skew.{field}", KIND, held=not bad, measured=worst[0], rule="at most", threshold=most,
        rows=rows,
        message=f"{what} of {worst[1].feature!r} between training and serving is "
        f"{number(worst[0])}; {len(bad)} of {len(known)} columns differ by more than {number(most)}",
        parts=tuple(Part(d.feature, d.rows, value, held=d not in bad) for value, d in ordered[:_SHOWN]),
    )  # fmt: skip


def drifts_of(profile: Baseline, serving: Frame) -> list[FeatureDrift]:
    """Return how each input of a served sample differs from the baseline's; [] when none fits.

    Args:
        profile: of the training frame.
        serving: all the columns that the model reads, in its order.

    Raises:
        ProfileError: a column is described in the profile, and the served one is something else.
    """
    described = {
        one.name: describer(one)(_described(serving, one.tensor))
        for one in profile.layout.descriptors
        if any(f.role == "input" and f.tensor == one.name for f in profile.layout.features)
    }
    chosen = [i for i, f in enumerate(profile.layout.features) if f.role == "input"]
    layout = msgspec.structs.replace(
        profile.layout,
        features=tuple(profile.layout.features[i] for i in chosen),
        score_tensor=None,
        score_edges=(),
        slices=(),
        error_tree=None,
    )
    inputs = msgspec.structs.replace(
        profile,
        layout=layout,
        window=msgspec.structs.replace(
            profile.window,
            profile_id=layout.profile_id,
            features=tuple(profile.window.features[i] for i in chosen),
            score_cells=None,
            quality=None,
            slices=(),
        ),
        stats=tuple(profile.stats[i] for i in chosen),
        calibration=None,
        errors=None,
    )
    cells = cells_of(layout)
    columns = []
    for index, feature in enumerate(layout.features):
        if feature.tensor in described:
            columns.append(described[feature.tensor][:, feature.column])
            continue
        values = serving.columns[feature.name]
        if (values.dtype == object) != (feature.kind == "categorical"):
            return []
        columns.append(
            cells.encode(index, values) if feature.kind == "categorical"
            else values.astype(np.float32)
        )  # fmt: skip
    accumulator = Accumulator(layout)
    accumulator.update_rows(np.column_stack(columns))
    return list(Judge(inputs).judge(accumulator.window(0, 0)))


def _described(serving: Frame, tensor: str) -> Array:
    """Return the rows of a tensor that is described: one column, or a matrix of all of them."""
    if tensor in serving.columns:
        return serving.columns[tensor]
    words = [name for name, column in serving.columns.items() if column.dtype == object]
    if words:
        raise ProfileError(f"column {words[0]!r} holds words, and the model reads numbers")
    return frames.tensors(serving, tensor)[tensor]
