"""Gates: what a wave must show, evaluated from facts into values with sentences.

A gate is waiting, passed or failed. Counts decide: quality is judged from label-joined counts of
the wave's own devices, merged since the wave started, against a limit and against the version
that was replaced on the same devices. While labels are still few, a gate fails early only when
the doubt is gone (three standard errors). At the deadline, what waits has failed: silence is not
success.
"""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING, Literal

import msgspec

from whimbrel_core.profile.drift.levels import LEVELS
from whimbrel_core.profile.quality.estimates import RealisedQuality
from whimbrel_server.views.drift import DriftState
from whimbrel_server.views.rollouts import Gates, GateView

if TYPE_CHECKING:
    from collections.abc import Sequence

Verdict = Literal["waiting", "passed", "failed"]

# DeLong's standard error is an approximation that needs a few positives and negatives.
_EARLY_LABELS = 50
_SIGMAS = 3.0


class DeviceFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One device of the wave, by its own report and the windows that came from it."""

    device: str
    digest: str = ""
    phase: str = ""
    parity_passed: bool = False
    committed: bool = False
    refused: bool = False
    error: str = ""
    rows: int = 0
    windows: int = 0


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """How requests went, over all devices of the wave."""

    requests: int = 0
    failed: int = 0
    latency_p50_us: float | None = None


class WaveFacts(msgspec.Struct, frozen=True, kw_only=True):
    """All that the gates of one wave are judged by."""

    digest: str
    devices: tuple[DeviceFacts, ...]
    overdue: bool = False
    service: Service = Service()
    incumbent_service: Service = Service()
    output_state: DriftState = "too_few"
    quality: RealisedQuality = RealisedQuality(n=0)
    incumbent_quality: RealisedQuality = RealisedQuality(n=0)


def evaluate(gates: Gates, facts: WaveFacts) -> tuple[GateView, ...]:
    """Return every declared gate with its value and a sentence that says it."""
    found = [_serving(facts), _traffic(gates, facts)]
    if gates.max_error_rate is not None:
        found.append(_errors(gates.max_error_rate, gates.min_rows, facts))
    if gates.max_latency_ratio is not None:
        found.append(_latency(gates.max_latency_ratio, facts))
    if gates.max_output_state is not None:
        found.append(_outputs(gates.max_output_state, facts))
    if gates.min_auc is not None:
        found.append(_auc(gates.min_auc, gates.labels, facts))
    if gates.max_auc_drop is not None:
        found.append(_auc_drop(gates.max_auc_drop, gates.labels, facts))
    if gates.labels and gates.min_auc is None and gates.max_auc_drop is None:
        found.append(_labels(gates.labels, facts))
    if facts.overdue:
        found = [
            msgspec.structs.replace(
                gate, state="failed", sentence=f"{gate.sentence}; the deadline has passed"
            )
            if gate.state == "waiting"
            else gate
            for gate in found
        ]
    return tuple(found)


def verdict(gates: Sequence[GateView]) -> Verdict:
    """Return "failed" when one gate failed, "passed" when all passed, else "waiting"."""
    states = {gate.state for gate in gates}
    if "failed" in states:
        return "failed"
    return "passed" if states <= {"passed"} else "waiting"


def reason(gates: Sequence[GateView]) -> str:
    """Return the sentences of the gates that failed."""
    return "; ".join(gate.sentence for gate in gates if gate.state == "failed")


def _serving(facts: WaveFacts) -> GateView:
    refused = [one for one in facts.devices if one.refused]
    settled = [
        one
        for one in facts.devices
        if one.digest == facts.digest and one.parity_passed and one.committed
    ]
    trying = [one for one in facts.devices if one.digest == facts.digest and not one.committed]
    total = len(facts.devices)
    value, limit = float(len(settled)), float(total)
    if refused:
        names = ", ".join(f"{one.device} ({one.error or 'quarantined'})" for one in refused)
        return GateView(
            name="serving",
            state="failed",
            value=value,
            limit=limit,
            sentence=f"the version was taken back by {names}",
        )
    sentence = f"{len(settled)} of {total} devices have committed to it"
    if trying:
        sentence += f", {len(trying)} have it on probation"
    state: Verdict = "passed" if len(settled) == total else "waiting"
    return GateView(name="serving", state=state, value=value, limit=limit, sentence=sentence)


def _traffic(gates: Gates, facts: WaveFacts) -> GateView:
    windows = gates.min_windows + gates.soak_windows
    least = min(facts.devices, key=lambda one: (one.rows, one.windows))
    fewest = min(one.windows for one in facts.devices)
    enough = least.rows >= gates.min_rows and fewest >= windows
    return GateView(
        name="traffic",
        state="passed" if enough else "waiting",
        value=float(least.rows),
        limit=float(gates.min_rows),
        sentence=(
            f"each device has served {_count(least.rows, 'row')} or more "
            f"(at least {gates.min_rows:,} needed) and sent {_count(fewest, 'window')} or more "
            f"(at least {windows:,} needed)"
        ),
    )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _errors(limit: float, min_rows: int, facts: WaveFacts) -> GateView:
    asked = facts.service.requests + facts.service.failed
    if not asked:
        # Whoever asks for no rows waits for none: a slot that nobody uses can be updated, too.
        return GateView(
            name="errors",
            state="waiting" if min_rows else "passed",
            limit=limit,
            sentence="no request has been counted yet"
            + ("" if min_rows else ", and none is needed"),
        )
    rate = facts.service.failed / asked
    # One failure in the first few requests is no rate yet: demand that the limit lies below the
    # lower end of the rate's interval, until enough were asked.
    doubt = _SIGMAS * sqrt(max(limit * (1 - limit), 0.0) / asked)
    state: Verdict = "failed" if rate > limit + doubt else "passed" if rate <= limit else "waiting"
    return GateView(
        name="errors",
        state=state,
        value=rate,
        limit=limit,
        sentence=f"{facts.service.failed} of {asked} requests failed ({rate:.2%}, limit {limit:.2%})",
    )


def _latency(limit: float, facts: WaveFacts) -> GateView:
    new, old = facts.service.latency_p50_us, facts.incumbent_service.latency_p50_us
    if new is None:
        return GateView(
            name="latency", state="waiting", limit=limit, sentence="no latency is known yet"
        )
    if not old:
        return GateView(
            name="latency",
            state="passed",
            limit=limit,
            sentence="there is no earlier version's latency to compare with",
        )
    ratio = new / old
    return GateView(
        name="latency",
        state="passed" if ratio <= limit else "failed",
        value=ratio,
        limit=limit,
        sentence=(
            f"the median latency is below {new:.0f} µs, {ratio:.2g} times the earlier version's "
            f"(limit {limit:.2g})"
        ),
    )


def _outputs(limit: DriftState, facts: WaveFacts) -> GateView:
    state = facts.output_state
    if state == "too_few":
        return GateView(
            name="outputs", state="waiting", sentence="too few predictions to judge outputs"
        )
    allowed = LEVELS.index(limit) if limit in LEVELS else 0
    verdict_: Verdict = "passed" if LEVELS.index(state) <= allowed else "failed"
    return GateView(
        name="outputs",
        state=verdict_,
        value=float(LEVELS.index(state)),
        limit=float(allowed),
        sentence=f"predictions are at '{state}' against the signed baseline (allowed: '{limit}')",
    )


def _auc(limit: float, labels: int, facts: WaveFacts) -> GateView:
    quality = facts.quality
    if quality.auc is None:
        return GateView(
            name="auc",
            state="waiting",
            limit=limit,
            sentence=f"{quality.n} of {labels} labels have come; no AUC yet",
        )
    doubt = _SIGMAS * (quality.auc_se if quality.auc_se is not None else 1.0)
    state = _decide(quality.auc, limit, doubt, quality.n, labels)
    return GateView(
        name="auc",
        state=state,
        value=quality.auc,
        limit=limit,
        sentence=(
            f"AUC is {quality.auc:.3f} over {quality.n} labels (at least {limit:.3f} over {labels})"
        ),
    )


def _auc_drop(limit: float, labels: int, facts: WaveFacts) -> GateView:
    new, old = facts.quality, facts.incumbent_quality
    if old.auc is None:
        return GateView(
            name="auc_drop",
            state="passed",
            limit=limit,
            sentence="there is no earlier version's AUC on these devices to compare with",
        )
    if new.auc is None:
        return GateView(
            name="auc_drop",
            state="waiting",
            limit=limit,
            sentence=f"{new.n} of {labels} labels have come; no AUC yet",
        )
    drop = old.auc - new.auc
    doubt = _SIGMAS * sqrt((new.auc_se or 1.0) ** 2 + (old.auc_se or 1.0) ** 2)
    state = _decide(-drop, -limit, doubt, new.n, labels)
    return GateView(
        name="auc_drop",
        state=state,
        value=drop,
        limit=limit,
        sentence=(
            f"AUC is {new.auc:.3f} over {new.n} labels, the earlier version's was {old.auc:.3f} "
            f"over {old.n} on the same devices (allowed drop {limit:.3f}, labels {labels})"
        ),
    )


def _labels(limit: int, facts: WaveFacts) -> GateView:
    n = facts.quality.n
    return GateView(
        name="labels",
        state="passed" if n >= limit else "waiting",
        value=float(n),
        limit=float(limit),
        sentence=f"{n} of {limit} labels have come",
    )


def _decide(value: float, least: float, doubt: float, n: int, wanted: int) -> Verdict:
    """Decide "value ≥ least": early only against it and beyond doubt, else at ``wanted`` labels."""
    if n >= _EARLY_LABELS and value + doubt < least:
        return "failed"
    if n < max(wanted, 1):
        return "waiting"
    return "passed" if value >= least else "failed"
