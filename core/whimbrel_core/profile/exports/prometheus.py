r"""Profiles as Prometheus text exposition, format 0.0.4.

It is what a node exporter's textfile collector or a push gateway takes. By the specification: all samples of a metric stand together below its ``# HELP`` and ``# TYPE``; in
values of labels ``\``, ``"`` and line breaks are escaped; names of labels are
``[a-zA-Z_][a-zA-Z0-9_]*`` and none begins with ``__``; the last line ends, too; no series occurs
twice. An empty label is as good as none, and is left out. Numbers are a *histogram*: cells are right-closed, which is what ``le`` means, so that
``histogram_quantile`` works on them.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, NamedTuple

from whimbrel_core.errors import UsageError
from whimbrel_core.profile.building.dataset import quantile
from whimbrel_core.profile.exports.table import QUANTILES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from whimbrel_core.profile.building.dataset import DatasetProfile
    from whimbrel_core.profile.counts import FeatureCounts
    from whimbrel_core.profile.drift.report import DriftReport
    from whimbrel_core.profile.feature import Feature

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_OWN = frozenset({"feature", "role", "kind", "unit", "quantile", "value", "le"})
_LEVELS = {"too_few": -1, "ok": 0, "notice": 1, "warn": 2, "severe": 3}


class _Sample(NamedTuple):
    labels: Mapping[str, str]
    value: float
    suffix: str = ""


def text(profile: DatasetProfile, labels: Mapping[str, str], *, cells: bool = False) -> str:
    """Return a profile as text.

    Args:
        profile: the counts.
        labels: of every sample, for example the model and the device.
        cells: whether to tell the rows of every cell, too: up to 103 series a feature.

    Raises:
        UsageError: a label's name cannot be one.
    """
    _check(labels)
    out = _metric("whimbrel_profile_rows", "gauge", "Rows of the profile.",
                  [_Sample(labels, profile.rows)])  # fmt: skip
    base = profile.baseline
    told = [
        (
            {**labels, "feature": f.name, "role": f.role, "kind": f.kind, "unit": f.unit or ""},
            f,
            c,
            s,
        )
        for f, c, s in zip(base.layout.features, base.window.features, base.stats, strict=True)
    ]
    for name, help_text, samples in (
        ("whimbrel_feature_missing", "Rows without a value.",
         [_Sample(own, c.nulls) for own, _, c, _ in told]),
        ("whimbrel_feature_infinite", "Rows with an infinite value.",
         [_Sample(own, c.pos_inf + c.neg_inf) for own, _, c, _ in told]),
        ("whimbrel_feature_mean", "Mean of the values.",
         [_Sample(own, s.mean) for own, _, _, s in told if s.mean is not None]),
        ("whimbrel_feature_sd", "Standard deviation of the values.",
         [_Sample(own, s.sd) for own, _, _, s in told if s.sd is not None]),
        ("whimbrel_feature_min", "Smallest value.",
         [_Sample(own, s.min) for own, _, _, s in told if s.min is not None]),
        ("whimbrel_feature_max", "Largest value.",
         [_Sample(own, s.max) for own, _, _, s in told if s.max is not None]),
        ("whimbrel_feature_quantile", "Quantiles of the values, about.",
         [_Sample({**own, "quantile": f"{q:g}"}, found) for own, f, c, _ in told for q in QUANTILES
          if (found := quantile(f, c, q)) is not None]),
    ):  # fmt: skip
        out += _metric(name, "gauge", help_text, samples)
    if cells:
        out += _metric(
            "whimbrel_feature_values",
            "histogram",
            "Values of numeric features by the profile's cells.",
            [
                one
                for own, f, c, s in told
                if f.kind == "numeric"
                for one in _buckets(own, f, c, s.mean)
            ],
        )
        out += _metric(
            "whimbrel_feature_value_rows",
            "gauge",
            "Rows by value or word; an empty value is any other.",
            [one for own, f, c, _ in told if f.kind != "numeric" for one in _values(own, f, c)],
        )
    return "\n".join(out) + "\n"


def drift(report: DriftReport, labels: Mapping[str, str]) -> str:
    """Return a drift report as text: state and distances per feature. Raises `UsageError`."""
    _check(labels)
    shown = [(one, {**labels, "feature": one.feature, "role": one.role}) for one in report.features]
    out = _metric("whimbrel_drift_state", "gauge",
                  "-1 too few rows, 0 ok, 1 notice, 2 warn, 3 severe.",
                  [_Sample(own, _LEVELS[one.state]) for one, own in shown])  # fmt: skip
    for field, said in (("psi", "Population stability index, debiased."),
                        ("js", "Jensen-Shannon distance."), ("ks", "Kolmogorov-Smirnov distance."),
                        ("w1_sd", "Wasserstein-1 distance in reference standard deviations."),
                        ("null_rate", "Share of rows without a value.")):  # fmt: skip
        samples = [
            _Sample(own, value) for one, own in shown if (value := getattr(one, field)) is not None
        ]
        out += _metric(f"whimbrel_drift_{field}", "gauge", said, samples)
    return "\n".join(out) + "\n"


def _metric(name: str, kind: str, help_text: str, samples: list[_Sample]) -> list[str]:
    if not samples:
        return []
    escaped = help_text.replace("\\", "\\\\").replace("\n", "\\n")
    return [
        f"# HELP {name} {escaped}",
        f"# TYPE {name} {kind}",
        *(f"{name}{one.suffix}{_labels(one.labels)} {_number(one.value)}" for one in samples),
    ]


def _buckets(
    own: Mapping[str, str], feature: Feature, counts: FeatureCounts, mean: float | None
) -> Iterator[_Sample]:
    below = 0
    for edge, count in zip(feature.edges, counts.cells, strict=False):
        below += count
        yield _Sample({**own, "le": _number(edge)}, below, "_bucket")
    yield _Sample({**own, "le": "+Inf"}, counts.finite, "_bucket")
    yield _Sample(own, (mean or 0.0) * counts.finite, "_sum")
    yield _Sample(own, counts.finite, "_count")


def _values(own: Mapping[str, str], feature: Feature, counts: FeatureCounts) -> Iterator[_Sample]:
    for name, count in zip(feature.cell_names()[:-1], counts.cells, strict=False):
        if name:
            yield _Sample({**own, "value": name}, count)
    # A word that is empty, and whatever has no cell, share the empty value.
    unnamed = sum(
        count
        for name, count in zip(feature.cell_names()[:-1], counts.cells, strict=False)
        if not name
    )
    yield _Sample({**own, "value": ""}, counts.cells[-1] + unnamed)


def _labels(labels: Mapping[str, str]) -> str:
    shown = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items() if value)
    return f"{{{shown}}}" if shown else ""


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return repr(int(value)) if value == int(value) and abs(value) < 1e15 else repr(float(value))  # noqa: PLR2004 - whole in a float


def _check(labels: Mapping[str, str]) -> None:
    for name in labels:
        if not _LABEL.fullmatch(name) or name.startswith("__") or name in _OWN:
            raise UsageError(
                f"{name!r} cannot be a label of these metrics",
                hint="labels are made of letters, digits and '_', and these are taken: "
                + ", ".join(sorted(_OWN)),
            )
