"""Reference data as packing needs it: inputs, labels, and which rows the model has not seen."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from whimbrel_core.errors import UsageError
from whimbrel_packager import baseline
from whimbrel_packager import frame as frames
from whimbrel_packager.frame import Frame

if TYPE_CHECKING:
    from collections.abc import Sequence

    from whimbrel_packager.conversion.conversion import Conversion

    Array = np.ndarray[Any, Any]


class Reference(NamedTuple):
    """Reference data apart from its labels, with a digest over all of it.

    Labels that were given apart from the data have a digest of their own. Columns that are set aside
    (times, groups, segments) are no inputs of the model; gates look at them.
    """

    frame: Frame
    labels: Array | None
    held_out: Array | None
    digest: str
    labels_digest: str = ""
    aside: Frame = Frame({})

    @property
    def whole(self) -> Frame:
        """All columns but the label and the mark of held-out rows."""
        return Frame({**self.frame.columns, **self.aside.columns})

    @classmethod
    def read(
        cls,
        reference: object,
        y: object,
        label: str,
        held_out: str,
        aside: Sequence[str] = (),
    ) -> Reference:
        """Read reference data and set its labels apart.

        Raises:
            UsageError: a column is missing or does not fit, or labels are given twice.
            InputError: the data cannot be read, or is no table.
        """
        if isinstance(reference, Path | str):
            frame = frames.read(Path(reference), aside)
        else:
            frame = frames.of(reference, aside)
        if not frame.rows or not frame.names:
            raise UsageError("the reference data has no rows or no columns")
        special = [column for column in (label, held_out) if column]
        frame.select(special, what="the command (--label, --held-out)")
        labels = frame.columns[label] if label else None
        apart = ""
        if y is not None:
            if label:
                raise UsageError("give labels either as y or as a column, not both")
            labels = frames.column("y", np.asarray(y))
            apart = digest_of_frame(Frame({"y": labels}))
            if len(labels) != frame.rows:
                raise UsageError(f"y has {len(labels)} rows, the data has {frame.rows}")
        mask = None
        if held_out:
            flags = frame.columns[held_out]
            if flags.dtype == object or not np.isin(flags, (0, 1)).all():
                raise UsageError(f"column {held_out!r} must be true or false in every row")
            mask = flags.astype(bool)
            if labels is None or not mask.any():
                raise UsageError(
                    f"--held-out {held_out} needs labels, and at least one row that is true"
                )
        apart_columns = frame.select(aside, what="the recipe (data.aside)")
        return cls(
            frame.without([*special, *aside]),
            labels,
            mask,
            digest_of_frame(frame),
            apart,
            apart_columns,
        )

    def labelled(self, done: Conversion) -> baseline.Labelled | None:
        """Return the labels as the model's classes or values; None when there are none."""
        if self.labels is None:
            return None
        labels = self.labels
        if done.result.description.task == "classification":
            labels = baseline.class_labels(labels, done.result)
        elif labels.dtype == object:
            raise UsageError("the label column holds words, and the model predicts numbers")
        mask = self.held_out if self.held_out is not None else np.ones(len(labels), dtype=bool)
        return baseline.Labelled(labels, mask)


def digest_of_frame(frame: Frame) -> str:
    """Return the SHA-256 over names, types and values of all columns."""
    hasher = hashlib.sha256()
    for name, column in frame.columns.items():
        hasher.update(f"{name}\0{column.dtype.kind}\0".encode())
        if column.ndim > 1:
            hasher.update(f"{column.shape[1:]}\0".encode())
        if column.dtype == object:
            hasher.update(msgspec.json.encode(column.tolist()))
        else:
            hasher.update(np.ascontiguousarray(column).tobytes())
    return hasher.hexdigest()
