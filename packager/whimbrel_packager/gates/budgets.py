"""Budgets: time, memory and size, as measured on this machine with one thread.

A time is judged by the median of several rounds, and fails only when it is beyond its limit by
more than the margin: other work on a build machine is no fault of the model. Bytes are exact.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from whimbrel_packager.gates.outcome import Outcome, number

if TYPE_CHECKING:
    from collections.abc import Iterator

KIND = "budgets"


class Budgets(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Limits of what a model may take; None for none.

    Args:
        latency_us: median of one row, µs.
        latency_p99_us: 99th percentile of one row, µs.
        latency_16_us: median of a batch of 16 rows, µs.
        load_ms: from the model's bytes to a session, ms.
        memory_bytes: increase of resident memory by loading it and running batches of 1 and 16.
        model_bytes: size of the model inside the bundle.
        bundle_bytes: size of all files of the bundle but the outcomes of gates and the signature.
        margin: share by which times and memory may be beyond their limit on this machine.
    """

    latency_us: float | None = None
    latency_p99_us: float | None = None
    latency_16_us: float | None = None
    load_ms: float | None = None
    memory_bytes: int | None = None
    model_bytes: int | None = None
    bundle_bytes: int | None = None
    margin: float = 0.1


class Measured(NamedTuple):
    """What was measured.

    Attributes:
        figures: by the name of the budget.
        rounds: least and largest of the rounds, of times.
        machine: in words.
        repeatable: whether times and memory go into the record: not in a reproducible build.
    """

    figures: dict[str, float]
    rounds: dict[str, tuple[float, float]]
    machine: str
    repeatable: bool = True


_EXACT = ("model_bytes", "bundle_bytes")
_UNITS = {"us": "µs", "ms": "ms", "bytes": "bytes"}


def judge(declared: Budgets, measured: Measured) -> Iterator[Outcome]:
    """Yield an outcome per budget."""
    for name, value in measured.figures.items():
        budget = getattr(declared, name)
        if budget is None:
            continue
        exact = name in _EXACT
        threshold = budget if exact else budget * (1 + declared.margin)
        unit = _UNITS[name.rpartition("_")[2]]
        rounds = measured.rounds.get(name)
        spread = f", {number(rounds[0])} to {number(rounds[1])} in rounds" if rounds else ""
        told = exact or measured.repeatable
        yield Outcome(
            name=f"budgets.{name}",
            kind=KIND,
            held=value <= threshold,
            measured=value if told else None,
            rule="at most",
            threshold=float(budget),
            interval=rounds if told else None,
            unit=unit,
            message=f"{number(value)} {unit} of {number(budget)}{spread}"
            f"{'' if exact else f' (+{declared.margin:.0%} margin, {measured.machine})'}"
            if told or value > threshold
            else f"within {number(budget)} {unit}",
        )
