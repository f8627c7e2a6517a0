"""The occasion of a packing: what belongs to the moment and the machine, and not to the inputs.

The date, what this machine measured, and what was found of the training code. Two packings of the
same inputs differ in nothing else, so that ``whimbrel rebuild`` takes the recorded occasion and
gets the same bytes. Under SOURCE_DATE_EPOCH the date is that one, and measurements stay out.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from whimbrel_core.bundle.manifest import GateOutcome
from whimbrel_core.canonical import canonical_json
from whimbrel_core.errors import UsageError
from whimbrel_packager.record.lineage import Lineage

if TYPE_CHECKING:
    from whimbrel_packager.conversion.runtime import Figures

SOURCE_DATE_EPOCH = "SOURCE_DATE_EPOCH"


class Measured(msgspec.Struct, frozen=True):
    """What the machine that packed has measured, with one thread.

    Args:
        memory_bytes: increase of resident memory by loading the model and running it.
        latency_us: median of one row.
        latency_16_us: median of a batch of 16 rows.
        load_ms: until the model was ready.
        before_us: median of one row before the model was made smaller; the same when it was not.
    """

    memory_bytes: int
    latency_us: float
    latency_16_us: float
    load_ms: float
    before_us: float = 0.0


class Occasion(msgspec.Struct, frozen=True):
    """One occasion of packing.

    Args:
        created: RFC 3339, UTC, whole seconds.
        lineage: what the model comes from.
        measured: None when it was left out.
        gates: what gates found; the incumbent and the machine of that day are not there again.
    """

    created: str
    lineage: Lineage = Lineage()
    measured: Measured | None = None
    gates: tuple[GateOutcome, ...] = ()


def sorted_keys(occasion: Occasion) -> Occasion:
    """Return an occasion whose mappings are in the order of their keys, as the bundle keeps them."""
    return msgspec.json.decode(canonical_json(occasion), type=Occasion)


def this(figures: Figures, lineage: Lineage, *, before: Figures) -> Occasion:
    """Return the present occasion, with what was measured unless the date is prescribed.

    Raises:
        UsageError: SOURCE_DATE_EPOCH is no date.
    """
    given = os.environ.get(SOURCE_DATE_EPOCH)
    if given is None:
        return Occasion(
            _text(datetime.now(UTC)),
            lineage,
            Measured(
                memory_bytes=figures.memory_bytes,
                latency_us=figures.latency_us,
                latency_16_us=figures.latency_16_us,
                load_ms=figures.load_ms,
                before_us=before.latency_us,
            ),
        )
    try:
        return Occasion(_text(datetime.fromtimestamp(int(given), UTC)), lineage)
    except (ValueError, OverflowError, OSError):
        raise UsageError(
            f"{SOURCE_DATE_EPOCH}={given!r} is not a number of seconds since 1970"
        ) from None


def _text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
