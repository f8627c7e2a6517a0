"""The context: all that a gate may look at, as one value. A gate reads it and answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from whimbrel_packager.gates.outcome import Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    from whimbrel_core.profile.baseline import Baseline
    from whimbrel_packager.frame import Frame
    from whimbrel_packager.gates.budgets import Measured
    from whimbrel_packager.gates.definitions import Definitions
    from whimbrel_packager.quality.intervals import Resamples
    from whimbrel_packager.quality.predictions import Predictions

    Array = np.ndarray[Any, Any]


class Rival(NamedTuple):
    """The incumbent's answers.

    Attributes:
        title: its name and version.
        predictions: on the held-out rows; None when there is a ``problem``, or none was found.
        problem: why it cannot be compared; "" when it can.
    """

    title: str
    predictions: Predictions | None
    problem: str = ""


@dataclass(frozen=True)
class Context:
    """What is known of a model that is converted and proven, before it is signed.

    Attributes:
        name: of the model.
        version: of the bundle.
        task: "classification" or "regression".
        frame: all columns but the label and the mark of held-out rows, n reference rows.
        inputs: the columns that the model reads with the datatype of each (FP32, INT64, BYTES).
        labels: (n,) true class names or values; None when there are none.
        held_out: (n,) bool, the rows that quality is measured on.
        split: whether held-out rows were named; else ``held_out`` is all rows.
        predictions: the converted model's answers on the held-out rows, with what was true; None
            without labels.
        resamples: of the held-out rows, for intervals.
        measured: times, memory and sizes.
        metrics: the figures that the manifest records.
        rival: the incumbent's answers on the same held-out rows, where one was asked for.
        profile: the baseline, where a serving sample is to be compared with it.
        definitions: feature definitions, where they were named.
        serving: a sample of served features, where one was named.
    """

    name: str
    version: str
    task: str
    frame: Frame
    inputs: Mapping[str, str]
    labels: Array | None
    held_out: Array
    split: bool
    predictions: Predictions | None
    resamples: Resamples
    measured: Measured
    metrics: Mapping[str, float] = field(default_factory=dict)
    rival: Rival | None = None
    profile: Baseline | None = None
    definitions: Definitions | None = None
    serving: Frame | None = None

    @property
    def note(self) -> str:
        """What to say beside a figure of quality; "" when it is on held-out rows."""
        return "" if self.split else " (on all reference rows: none are named as held out)"


Gate = Callable[[Context], Outcome]
