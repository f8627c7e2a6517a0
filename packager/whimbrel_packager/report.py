"""What packing found out, for people and for ``--json``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from whimbrel_packager.gates.outcome import Verdict

if TYPE_CHECKING:
    from whimbrel_packager.baseline import Labelled
    from whimbrel_packager.conversion import runtime
    from whimbrel_packager.conversion.parity import Proof


class Report(msgspec.Struct, frozen=True):
    """The figures of one packing; ``gates`` is None when none were declared."""

    rows: int
    cases: dict[str, int]
    refused_by_source: dict[str, int]
    max_abs_error: float
    rtol: float
    atol: float
    label_ties: int
    thresholds: int
    vectors: int
    model_bytes: int
    bundle_bytes: int
    memory_bytes: int
    latency_us: float
    latency_16_us: float
    load_ms: float
    metrics: dict[str, float]
    unused_columns: tuple[str, ...]
    notes: tuple[str, ...]
    seconds: float
    gates: Verdict | None = None


def notes_on(
    figures: runtime.Figures,
    proof: Proof,
    labelled: Labelled | None,
    held_out: str,
) -> tuple[str, ...]:
    """Return what a person should know of a packing that succeeded."""
    notes = []
    if figures.empty_batch:
        notes.append(f"a batch of no rows: {figures.empty_batch}")
    if proof.ties:
        notes.append(f"{proof.ties} corpus rows with tied labels, which may fall either way")
    for case, rows in proof.refused.items():
        notes.append(f"{rows} {case!r} rows left out: the source model refuses them")
    if labelled is None:
        notes.append("no labels: quality cannot be estimated on devices (give --label)")
    elif not held_out:
        notes.append("quality is measured on all reference rows; name those that the model has "
                     "not seen with --held-out")  # fmt: skip
    return tuple(notes)
