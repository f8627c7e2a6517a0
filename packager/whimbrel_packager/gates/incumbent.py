"""The incumbent: the version in service, asked about the same held-out rows.

"Not worse" cannot be shown by a difference that happens to be small: what is judged is the
interval of the paired difference. Non-inferiority: the whole interval lies above minus the margin.
Superiority: the whole interval lies above zero. (Both as in ICH E9, "Statistical principles for
clinical trials", 3.3.2; the interval is two-sided, so that at 95 % a model worse by the margin
passes one time in forty.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from whimbrel_core.errors import ConfigError
from whimbrel_packager.gates.outcome import Outcome, between, number, refused, unjudged
from whimbrel_packager.quality import intervals
from whimbrel_packager.quality.metrics import METRICS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from whimbrel_packager.gates.context import Context

KIND = "incumbent"


class Incumbent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which bundle is the incumbent, and by how much a new one may be worse.

    Args:
        bundle: path of its file, from the recipe's folder; "" for the newest release in
            ``repository``.
        repository: repository whose newest release of this model it is.
        key: public key that it must be signed with; "" for the keys that the repository names, or
            the one that signs the new bundle.
        mode: "non-inferiority" (not worse by more than the margin) or "superiority".
        margins: by figure, e.g. ``auc = 0.01``; in the figure's own unit.
    """

    bundle: str = ""
    repository: str = ""
    key: str = ""
    mode: Literal["non-inferiority", "superiority"] = "non-inferiority"
    margins: dict[str, float] = {}

    def __post_init__(self) -> None:
        """Refuse figures that nobody knows, and negative margins."""
        for name, margin in self.margins.items():
            if name not in METRICS:
                raise ConfigError(
                    f"gates.incumbent.margins: there is no figure {name!r}",
                    hint=f"one of {', '.join(METRICS)}",
                    code="config.unknown_key",
                )
            if margin < 0:
                raise ConfigError(f"gates.incumbent.margins.{name} is {margin}, below zero")


def judge(declared: Incumbent, context: Context) -> Iterator[Outcome]:
    """Yield an outcome per figure that is compared."""
    rival, mine = context.rival, context.predictions
    for name, margin in declared.margins.items():
        metric, title = METRICS[name], f"incumbent.{name}"
        if rival is None:
            yield unjudged(title, KIND, "there is no earlier release to compare with")
            continue
        if mine is None:
            yield refused(title, KIND, "there are no labels to compare with (data.label)")
            continue
        theirs = rival.predictions
        lacking = rival.problem or metric.missing(mine) or (
            f"{rival.title}: {metric.missing(theirs)}"
            if theirs is not None and metric.missing(theirs) else ""
        )  # fmt: skip
        if theirs is None or lacking:
            yield refused(title, KIND, lacking, mine.rows)
            continue
        found = intervals.of_difference(metric, mine, theirs, context.resamples)
        more_is_better = 1 if metric.better == "higher" else -1
        gain = found.turned(more_is_better)
        if declared.mode == "superiority":
            floor, held = 0.0, gain.low > 0
        else:
            floor, held = -margin, gain.low >= -margin
        figures = f"{number(metric.value(mine))} against {number(metric.value(theirs))}"
        asked = (
            "the whole interval above 0 is asked for"
            if declared.mode == "superiority"
            else f"not worse than by {number(margin)} is asked for, with the whole interval"
        )
        yield Outcome(
            name=title,
            kind=KIND,
            held=bool(held),
            measured=gain.value,
            rule="at least",
            threshold=floor,
            interval=gain.ends,
            rows=mine.rows,
            message=f"{metric.what} is {figures} of {rival.title}: better by {number(gain.value)}"
            f"{between(gain.ends, context.resamples.confidence)}, "
            f"{asked}{context.note}",
        )
