"""The baseline of a model, from reference data and the model's answers."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from whimbrel_core.errors import InputError, UsageError
from whimbrel_core.profile.building import reference
from whimbrel_core.profile.building.columns import ColumnSpec
from whimbrel_core.profile.layout import MAX_FEATURES
from whimbrel_packager import descriptors, window_size
from whimbrel_packager import frame as frames
from whimbrel_packager.descriptors import Describe, Source
from whimbrel_packager.profiles.making import select
from whimbrel_packager.quality.predictions import class_names

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping, Sequence

    from whimbrel_core.profile.baseline import Baseline
    from whimbrel_core.profile.feature import Role
    from whimbrel_packager.conversion.conversion import Result
    from whimbrel_packager.frame import Frame
    from whimbrel_packager.recipe import Profile
    from whimbrel_packager.segments import Segment
    from whimbrel_packager.sources import Description

    Array = np.ndarray[Any, Any]

MAX_PROFILED_CLASSES = 16
_BINARY = 2
_TRUE, _FALSE = ("true", "1", "yes"), ("false", "0", "no")


class Labelled(NamedTuple):
    """Labels of the reference rows, and which of those the model was not trained on."""

    labels: Array
    held_out: Array


def positive_index(given: str | None, result: Result) -> int | None:
    """Return the index of the positive class: as given, or what a model is there to find.

    That is class 1 of a True/False model, and the outliers of an outlier detector.

    Raises:
        UsageError: it is none of the model's classes, or there are more than two.
    """
    description = result.description
    if given is None:
        if description.detector:
            return description.classes.index("-1")
        return 1 if description.boolean else None
    names = list(description.classes)
    if names == ["0", "1"]:  # what a model of False and True answers
        given = "1" if given.lower() in _TRUE else "0" if given.lower() in _FALSE else given
    if description.task != "classification" or len(names) != _BINARY:
        raise UsageError(
            f"--positive belongs to a model of two classes, this one has {len(names)}",
            hint="leave it out",
        )
    if given not in names:
        raise UsageError(f"--positive {given!r} is none of the classes: {', '.join(names)}")
    return names.index(given)


def class_labels(labels: Array, result: Result) -> Array:
    """Return true labels as class names; indices count where all names are words.

    Raises:
        InputError: a label is missing, or none of the model's classes.
    """
    classes = result.description.classes
    known = set(classes)
    numeric = all(name.lstrip("-").isdigit() for name in known)
    names = []
    for value in labels.tolist():
        text = "" if value is None else str(value)
        if result.description.detector and (isinstance(value, bool) or value == 0):
            # True would be class 1, an inlier: rarely what such a column means.
            raise InputError(
                f"label {value!r} is neither -1 (an outlier) nor 1 (an inlier), which are the "
                "classes of an outlier detector",
                hint="make the label column -1 and 1, e.g. numpy.where(outlier, -1, 1)",
                code="input.label",
            )
        if numeric and isinstance(value, bool | int | float) and not math.isnan(value):
            text = str(int(value)) if float(value).is_integer() else text
        elif numeric and text.lower() in {"true", "false"}:
            text = "1" if text.lower() == "true" else "0"
        elif not numeric and isinstance(value, int) and 0 <= value < len(classes):
            text = classes[value]  # networks are trained on indices, and told the names later
        if text not in known:
            raise InputError(
                f"label {value!r} is none of the model's classes: "
                f"{', '.join(result.description.classes[:20])}",
                hint="check which column --label names",
                code="input.label",
            )
        names.append(text)
    return np.array(names, dtype=object)


def build(
    frame: Frame,
    outputs: Mapping[str, Array],
    result: Result,
    *,
    labelled: Labelled | None,
    positive: int | None,
    units: Mapping[str, str],
    declared: Sequence[Describe] = (),
    segments: Sequence[Segment] = (),
    chosen: Sequence[str] = (),
) -> Baseline:
    """Return the baseline: without inputs where there are more columns than a profile holds.

    Args:
        frame: the input columns, all reference rows.
        outputs: the converted model's outputs for them.
        result: of the conversion.
        labelled: true labels, with the rows to calibrate on; None when there are none.
        positive: index of the positive class, or None.
        units: physical units by column name.
        declared: inputs and outputs that are no columns of numbers.
        segments: of the rows, that get a small profile of their own.
        chosen: names or patterns of the columns that are profiled; empty: all.

    Raises:
        ProfileError: too many columns or classes to profile, or a segment of a feature that is not
            profiled or of values that it does not have.
        UsageError: a unit is given for a column that is not there, something is declared or chosen
            that is not there or cannot be, or more is chosen than a profile holds.
    """
    picked = select(frame.names, chosen, "the model")
    unknown = sorted(set(units) - set(frame.names))
    if unknown:
        raise UsageError(
            f"--units names {', '.join(unknown)}, which the model does not read",
            hint=f"its columns are {', '.join(frame.names)}",
        )
    description = result.description
    names = set(frame.names)
    passed_over = names - {*picked, *(one.tensor for one in declared), description.matrix}
    sources = list(_sources(frame, outputs, result, passed_over))
    described = descriptors.describe(sources, declared, {*names, *description.roles})
    columns, score_tensor = _outputs(outputs, description, described.tensors, names, positive)
    made = described.columns
    if description.matrix not in described.tensors:
        own = frame.without(list(described.tensors)) if description.matrix is None else frame
        own = own.select([name for name in own.names if name in picked], what="the profile")
        most = MAX_FEATURES - len(columns) - len(made)
        if _fits(own, most, chosen):
            places = {name: i for i, name in enumerate(frame.names)}
            columns = [*_inputs(own, description.matrix, units, places), *columns]
    columns = [
        *(column for column in made if column.role == "input"),
        *columns,
        *(column for column in made if column.role == "output"),
    ]
    told = {} if labelled is None else _told(labelled, outputs, description, columns, score_tensor)
    return reference.build(
        columns,
        task=description.task,
        classes=description.classes,
        positive=positive,
        score_tensor=score_tensor,
        descriptors=described.descriptors,
        slices=[segment.slice() for segment in segments],
        **told,
    )


def _outputs(
    outputs: Mapping[str, Array],
    description: Description,
    described: Container[str],
    names: set[str],
    positive: int | None,
) -> tuple[list[ColumnSpec], str | None]:
    """Return the columns of the outputs that are not described, and which holds the scores."""
    columns: list[ColumnSpec] = []
    score_tensor = None
    for name, role in description.roles.items():
        values = outputs[name].reshape(len(outputs[name]), -1)
        if name in described:
            score_tensor = name if role == "probabilities" else score_tensor
        elif role == "label":
            flat = values[:, 0]
            columns.append(_output(name, names, name, 0, flat.astype(object)
                                   if flat.dtype.kind == "U" else flat))  # fmt: skip
        elif role == "probabilities":
            score_tensor = name
            for i in _profiled(values.shape[1], positive):
                shown = f"{name}[{description.classes[i]}]" if values.shape[1] > 1 else name
                columns.append(_output(shown, names, name, i, values[:, i]))
        elif role == "value":
            for i in range(min(values.shape[1], MAX_PROFILED_CLASSES)):
                shown = name if values.shape[1] == 1 else f"{name}[{i}]"
                columns.append(_output(shown, names, name, i, values[:, i]))
    return columns, score_tensor


def _told(
    labelled: Labelled,
    outputs: Mapping[str, Array],
    description: Description,
    columns: Sequence[ColumnSpec],
    score_tensor: str | None,
) -> dict[str, Array | None]:
    """Return what held-out rows tell of quality: their labels, with scores or predictions."""
    rows = labelled.held_out
    if description.task != "classification":
        if not _one_value(columns, description):
            return {}
        known = np.full(len(labelled.labels), np.nan)
        known[rows] = labelled.labels[rows].astype(float)
        return {"labels": known}
    if score_tensor is None:
        return {}
    label = next((n for n, role in description.roles.items() if role == "label"), None)
    return {
        "labels": labelled.labels[rows],
        "scores": outputs[score_tensor][rows],
        "predicted": None if label is None else class_names(outputs[label][rows]),
    }


def _one_value(columns: Sequence[ColumnSpec], of: Description) -> bool:
    """Return whether the model is a regression that predicts one number a row."""
    found = [column for column in columns if column.role == "output"]
    return of.task == "regression" and [of.roles.get(one.tensor) for one in found] == ["value"]


def notes(profile: Baseline, result: Result, wanted: Profile) -> tuple[str, ...]:
    """Return what a person should know of a baseline that was made as ``wanted``."""
    layout = profile.layout
    described = {descriptor.tensor for descriptor in layout.descriptors}
    counted = {*described, *(feature.tensor for feature in layout.features)}
    left_out = [name for name, _, _ in result.inputs if name not in counted]
    told = tuple(descriptors.note(descriptor, wanted.describe) for descriptor in layout.descriptors)
    fitting = window_size.rows_that_fit(profile)
    if fitting is not None:
        large = (
            f"a window of more than {fitting:,} rows may not fit one message, and a device drops it: "
            "profile fewer columns ([profile] columns), or make windows shorter (drift.window_s)"
        )
        told = (*told, large)
    if wanted.columns or not left_out:
        return told
    most = (
        f"a profile has {MAX_FEATURES} features at most, so that its counts fit one message; choose "
        'some in the recipe, [profile] columns = ["temp_*", "speed"], or describe a wide matrix as an '
        "embedding"
    )
    if len(left_out) == len(result.inputs):
        return (*told, f"the inputs are not profiled, the outputs are: {most}")
    return (*told, f"not profiled: {', '.join(left_out[:10])}: {most}")


def _sources(
    frame: Frame, outputs: Mapping[str, Array], result: Result, passed_over: Container[str]
) -> Iterator[Source]:
    """Yield the model's inputs and outputs as something that may be described."""
    description = result.description
    matrix = description.matrix
    if matrix is not None:
        numbers = all(column.dtype.kind == "f" for column in frame.columns.values())
        yield Source(
            tensor=matrix,
            role="input",
            tail=(len(frame.names),),
            dtype=np.dtype(np.float32 if numbers else np.int64),
            named=frame.names != tuple(f"x{i}" for i in range(len(frame.names))),
            values=lambda: frames.tensors(frame, matrix)[matrix],
        )
    else:
        for name, values in frame.columns.items():
            if name not in passed_over:
                yield _source(name, "input", values, named=False)
    for name, role in description.roles.items():
        made = outputs[name]
        if made.ndim and len(made) == frame.rows:
            yield _source(name, "output", made, named=role != "value")


def _source(name: str, role: Role, values: Array, *, named: bool) -> Source:
    return Source(name, role, values.shape[1:], values.dtype, named, partial(np.asarray, values))


def _fits(own: Frame, most: int, chosen: Sequence[str]) -> bool:
    """Return whether columns are few enough to be profiled; refuse too many that were chosen."""
    wide = sum(int(math.prod(values.shape[1:])) for values in own.columns.values())
    if wide > most and chosen:
        raise UsageError(
            f"profile.columns chooses {wide} numbers a row, and {most} fit: a profile has "
            f"{MAX_FEATURES} features, outputs and descriptions among them",
            hint="choose fewer: those that the model leans on, and those that may drift",
            code="usage.columns",
        )
    return wide <= most


def _inputs(
    frame: Frame, matrix: str | None, units: Mapping[str, str], places: Mapping[str, int]
) -> list[ColumnSpec]:
    """Return the input columns, each number of a block one; ``places``: of columns in a matrix."""
    columns = []
    for name, values in frame.columns.items():
        for j, place in enumerate(np.ndindex(values.shape[1:])):
            columns.append(
                ColumnSpec(
                    name=f"{name}[{','.join(map(str, place))}]" if place else name,
                    role="input",
                    tensor=matrix or name,
                    column=places[name] if matrix else j,
                    values=values[(slice(None), *place)],
                    unit=units.get(name),
                )
            )
    return columns


def _profiled(width: int, positive: int | None) -> list[int]:
    if width == 1:
        return [0]
    # One of two probabilities is all there is to know.
    return [positive] if positive is not None else list(range(min(width, MAX_PROFILED_CLASSES)))


def _output(shown: str, taken: set[str], tensor: str, column: int, values: Array) -> ColumnSpec:
    name = f"output {shown}" if shown in taken else shown
    return ColumnSpec(name=name, role="output", tensor=tensor, column=column, values=values)
