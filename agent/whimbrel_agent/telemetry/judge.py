"""Judges a version on probation from this device's own counts: pure, no clock and no files.

A verdict needs evidence. *Failed* as soon as a bound that a good model would practically never
break is broken (three standard errors); *passed* when there are as many rows and labels as the
probation asks for and every measure is within its limit; *pending* otherwise.

Sources: Wilson (1927) for rates; Hanley & McNeil (1982) for the standard error of the AUC.
"""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from whimbrel_core.profile.counts import LATENCY_CELLS, OpsCounts, QualityCounts
from whimbrel_core.profile.quality import estimates as quality

if TYPE_CHECKING:
    from whimbrel_agent.channel import Verdict
    from whimbrel_core.wire.assignment import Probation

SIGMAS = 3.0
MIN_LABELS = 50
MIN_REQUESTS = 50
MIN_FAILURES = 3
MIN_PSI_ROWS = 200


class Behaviour(msgspec.Struct, frozen=True):
    """What a version did here since it began to serve.

    Args:
        rows: predicted rows.
        ops: requests, failures and latency.
        quality: joined labels of this version's own predictions, or None.
        binary: whether scores claim a positive class.
        output_psi: largest debiased PSI of an output with evidence behind it, or None.
    """

    rows: int = 0
    ops: OpsCounts = OpsCounts()
    quality: QualityCounts | None = None
    binary: bool = False
    output_psi: float | None = None

    @property
    def labels(self) -> int:
        """Predictions whose label is known."""
        return 0 if self.quality is None else self.quality.rows


class Opinion(NamedTuple):
    """A verdict, the numbers behind it, and one sentence."""

    verdict: Verdict
    evidence: dict[str, float]
    reason: str


class _Measure(NamedTuple):
    """One judged measure: is it broken beyond doubt, and is it within its limit now."""

    broken: bool
    held: bool
    sentence: str


def judge(probation: Probation, behaviour: Behaviour) -> Opinion:
    """Return the verdict on ``behaviour``."""
    evidence: dict[str, float] = {}
    measures = [
        measure
        for measure in (
            _error_rate(probation.max_error_rate, behaviour.ops, evidence),
            _latency(probation.max_latency_us, behaviour.ops, evidence),
            _auc(probation.min_auc, behaviour, evidence),
            _accuracy(probation.min_accuracy, behaviour, evidence),
            _output_psi(probation.max_output_psi, behaviour, evidence),
        )
        if measure is not None
    ]
    for measure in measures:
        if measure.broken:
            return Opinion("failed", evidence, measure.sentence)
    rows, labels = behaviour.rows, behaviour.labels
    if rows < probation.rows or labels < probation.labels:
        return Opinion(
            "pending",
            evidence,
            f"{rows} of {probation.rows} rows and {labels} of {probation.labels} labels seen",
        )
    for measure in measures:
        if not measure.held:
            return Opinion("pending", evidence, f"{measure.sentence}, not yet beyond doubt")
    return Opinion("passed", evidence, f"{rows} rows and {labels} labels within every limit")


def _error_rate(limit: float | None, ops: OpsCounts, evidence: dict[str, float]) -> _Measure | None:
    total = ops.requests + ops.failed
    if limit is None or not total:
        return None
    rate = ops.failed / total
    evidence["error_rate"] = rate
    lower, _ = wilson(ops.failed, total)
    broken = ops.failed >= MIN_FAILURES and lower > limit
    return _Measure(
        broken, rate <= limit, f"{ops.failed} of {total} requests failed ({limit:.1%} are allowed)"
    )


def _latency(limit: float | None, ops: OpsCounts, evidence: dict[str, float]) -> _Measure | None:
    if limit is None or not ops.requests:
        return None
    # Latency is counted per power of two: judged by the cell's lower end, so that a model is
    # never taken back for the width of a cell.
    upper = ops.latency_us(0.95)
    if upper is None:
        return None
    lower = upper / 2 if upper > 1 else 0.0
    evidence["latency_p95_us"] = upper
    slow = lower >= limit or upper >= 1 << (LATENCY_CELLS - 1)
    return _Measure(
        slow and ops.requests >= MIN_REQUESTS,
        not slow,
        f"the 95th percentile of latency is at least {lower:.0f} µs ({limit:.0f} are allowed)",
    )


def _auc(limit: float | None, behaviour: Behaviour, evidence: dict[str, float]) -> _Measure | None:
    if limit is None:
        return None
    if behaviour.quality is None or not behaviour.binary:
        return _Measure(broken=False, held=False, sentence="the AUC is not known")
    known = quality.realised(behaviour.quality, binary=True)
    if known.auc is None:
        return _Measure(broken=False, held=False, sentence="the AUC is not known")
    true = sum(behaviour.quality.scores[1::2])
    false = sum(behaviour.quality.scores[0::2])
    upper = known.auc + SIGMAS * hanley_mcneil(known.auc, true, false)
    evidence["auc"] = known.auc
    evidence["auc_upper"] = upper
    return _Measure(
        behaviour.labels >= MIN_LABELS and upper < limit,
        known.auc >= limit,
        f"the AUC is {known.auc:.3f}, at most {upper:.3f} ({limit:.3f} is asked for)",
    )


def _accuracy(
    limit: float | None, behaviour: Behaviour, evidence: dict[str, float]
) -> _Measure | None:
    if limit is None:
        return None
    if behaviour.quality is None or not behaviour.labels:
        return _Measure(broken=False, held=False, sentence="the accuracy is not known")
    share = behaviour.quality.right / behaviour.labels
    _, upper = wilson(behaviour.quality.right, behaviour.labels)
    evidence["accuracy"] = share
    evidence["accuracy_upper"] = upper
    return _Measure(
        behaviour.labels >= MIN_LABELS and upper < limit,
        share >= limit,
        f"the accuracy is {share:.3f}, at most {upper:.3f} ({limit:.3f} is asked for)",
    )


def _output_psi(
    limit: float | None, behaviour: Behaviour, evidence: dict[str, float]
) -> _Measure | None:
    psi = behaviour.output_psi
    if limit is None or psi is None:
        return None
    evidence["output_psi"] = psi
    return _Measure(
        behaviour.rows >= MIN_PSI_ROWS and psi > limit,
        psi <= limit,
        f"an output differs from its baseline by a PSI of {psi:.3f} ({limit:.3f} is allowed)",
    )


def wilson(successes: int, total: int, sigmas: float = SIGMAS) -> tuple[float, float]:
    """Return Wilson's score interval of a rate.

    >>> tuple(round(bound, 4) for bound in wilson(5, 10, 1.96))
    (0.2366, 0.7634)
    """
    z = sigmas * sigmas
    rate = successes / total
    centre = rate + z / (2 * total)
    spread = sigmas * sqrt(rate * (1 - rate) / total + z / (4 * total * total))
    scale = 1 + z / total
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def hanley_mcneil(auc: float, positives: int, negatives: int) -> float:
    """Return the standard error of an AUC over ``positives`` and ``negatives``.

    >>> round(hanley_mcneil(0.8, 20, 80), 4)
    0.0627
    """
    if not positives or not negatives:
        return 1.0
    q1 = auc / (2 - auc)
    q2 = 2 * auc * auc / (1 + auc)
    variance = (
        auc * (1 - auc) + (positives - 1) * (q1 - auc * auc) + (negatives - 1) * (q2 - auc * auc)
    ) / (positives * negatives)
    # At an AUC of 0 or 1 the formula says "no error"; a rule-of-three floor stays cautious.
    return max(sqrt(max(variance, 0.0)), 1 / (3 * min(positives, negatives)))
