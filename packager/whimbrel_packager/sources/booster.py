"""Boosters: what XGBoost, LightGBM and CatBoost have in common, as a source of one graph.

A framework's own file reads its models into a `Boosted` value and asks the framework for its own
answers; everything between, from a table's columns to labels and probabilities, is here. The
trees are written from the framework's own dump (`forest`) and not by onnxmltools 1.16 or CatBoost's
exporter: of 53 small models tried with those, on rows at their thresholds too, 18 answered as their
source, 24 otherwise without a word (every one of LightGBM that converted), and 11 failed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

import whimbrel_packager
from whimbrel_core.errors import ConversionError, InputError, UsageError
from whimbrel_packager.frame import datatype
from whimbrel_packager.sources import Description, Options, thresholds
from whimbrel_packager.sources.booster_graph import Graph

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from whimbrel_packager.frame import Frame
    from whimbrel_packager.sources.booster_graph import Link
    from whimbrel_packager.sources.forest import Forest
    from whimbrel_packager.sources.thresholds import Thresholds
    from whimbrel_packager.untyped import Estimator

    Array = np.ndarray[Any, Any]
    Word = str | int | float

DOUBLE = "thresholds in float64"
_UNKNOWN = "on a device, a category that the training did not have counts as missing"
_EXACT_INTEGERS = 1 << 24  # beyond it, float32 skips integers


class Boosted(NamedTuple):
    """A model of a boosting framework.

    Attributes:
        framework: name of the package.
        version: of the package, here.
        estimator: name of the model, for messages.
        forest: its trees.
        link: from sums to what the framework answers.
        classes: by index, as the framework gives them; empty: a regression.
        names: of the columns it was fitted on; empty: it was fitted without names.
        words: categories by column index, each in the order of its codes.
        threshold: probability above which the second of two classes is the label; None: 0.5.
        absent: a number that counts as missing beside NaN.
        exact: whether it compares in float64, so that large integers matter.
        strict: whether it means to refuse categories that it does not know. A device counts them
            as missing.
    """

    framework: str
    version: str
    estimator: str
    forest: Forest
    link: Link
    classes: tuple[Word, ...] = ()
    names: tuple[str, ...] = ()
    words: Mapping[int, tuple[Word, ...]] = {}
    threshold: float | None = None
    absent: float | None = None
    exact: bool = False
    strict: bool = False


class Answer(NamedTuple):
    """A framework's own answer.

    Attributes:
        numbers: (n,) or (n, 1) values, or probabilities of the second class; (n, classes) of all.
        labels: (n,) indices of classes, where the framework says labels itself.
    """

    numbers: Array
    labels: Array | None = None


class Asked(Protocol):
    """The framework's own model."""

    def __call__(self, rows: Estimator) -> Answer:
        """Return its answer to a table.

        Args:
            rows: an (n, F) array, or a DataFrame where the model has names.

        Raises:
            ValueError, TypeError: it does not accept these rows.
        """


def wrapped(model: Estimator) -> Asked:
    """Return how a wrapper of scikit-learn's kind is asked."""

    def ask(rows: Estimator) -> Answer:
        if not hasattr(model, "predict_proba"):
            return Answer(np.asarray(model.predict(rows)))
        said = np.asarray(model.predict(rows)).reshape(-1).astype(np.str_)
        # CatBoost says 'True' for True.
        same = said[:, None] == np.asarray(model.classes_).astype(np.str_)[None, :]
        if not same.any(axis=1).all():
            raise ConversionError(f"{type(model).__name__} answers with labels that are no classes")
        return Answer(np.asarray(model.predict_proba(rows)), same.argmax(axis=1))

    return ask


class BoosterSource:
    """An opened model of a boosting framework."""

    def __init__(self, model: Estimator, boosted: Boosted, asked: Asked, options: Options) -> None:
        self.model = model
        self.boosted = boosted
        self.options = options
        self.estimator = boosted.estimator
        self._asked = asked
        self._outputs: tuple[str, ...] = ()
        self._classes, self._boolean = classes_of(boosted, options.classes)

    def columns(self, frame: Frame) -> tuple[str, ...]:
        """Return the columns that the model reads, in its order."""
        names = self._known(frame)
        chosen = frame.select(names, what=self.estimator)
        if chosen.blocks:
            raise InputError(
                f"column {chosen.blocks[0]!r} holds several numbers a row, {self.estimator} reads "
                "one of each column",
                hint="split it into columns of their own",
                code="input.column",
            )
        for i, name in enumerate(names):
            kind, words = datatype(chosen.columns[name]), self.boosted.words.get(i, ())
            if (
                kind != "BYTES"
                and i in self._coded(chosen)
                and any(isinstance(w, str) for w in words)
            ):
                raise InputError(
                    f"column {name!r} holds numbers, {self.estimator} was fitted on the categories "
                    f"{', '.join(map(repr, words[:5]))} there",
                    hint="give reference data as it was before encoding",
                    code="input.column",
                )
            if kind == "BYTES" and i not in self.boosted.words:
                raise InputError(
                    f"column {name!r} holds words, {self.estimator} was fitted on numbers there",
                    hint="encode it in a pipeline in front of the model, or fit on a pandas column "
                    "of type 'category' where the framework keeps categories with the model",
                    code="input.column",
                )
        return names

    def attempts(self, frame: Frame) -> tuple[tuple[str, ...], ...]:
        """Return the rewrites that may help: float64 where integers exceed float32."""
        large = any(
            column.dtype.kind in "iu" and len(column) and np.abs(column).max() > _EXACT_INTEGERS
            for column in frame.columns.values()
        )
        return ((), (DOUBLE,)) if self.boosted.exact and self._split(frame) and large else ((),)

    def convert(self, frame: Frame, rewrites: tuple[str, ...] = ()) -> tuple[Any, Description]:
        """Return the model as a graph; ``frame`` holds the columns it reads."""
        split = self._split(frame)
        graph = Graph(
            {name: datatype(column) for name, column in frame.columns.items()},
            None if split else self.options.matrix_input,
            double=DOUBLE in rewrites,
        )
        for index, words in self.boosted.words.items():
            if split and index in self._coded(frame):
                graph.encode(frame.names[index], words)
        raw = graph.grow(self.boosted.forest, self.boosted.absent)
        if self._classes:
            roles = graph.classes(raw, self.boosted.link, self._classes, self.boosted.threshold)
        else:
            roles = graph.value(raw, self.boosted.link)
        self._outputs = tuple(roles)
        return graph.model(), Description(
            framework=self.boosted.framework,
            framework_version=self.boosted.version,
            estimator=self.estimator,
            converter="whimbrel-packager",
            converter_version=whimbrel_packager.__version__,
            task="classification" if self._classes else "regression",
            columns=frame.names,
            roles=roles,
            matrix=None if split else self.options.matrix_input,
            classes=tuple(map(str, self._classes)),
            boolean=self._boolean,
            rewrites=rewrites,
            notes=(_UNKNOWN,) if self.boosted.words else (),
        )

    def predict(self, frame: Frame) -> dict[str, Array]:
        """Return label and probabilities, or the value, as the framework itself answers."""
        with np.errstate(all="ignore"):
            numbers, labels = self._asked(self._table(frame))
            numbers = np.asarray(numbers, dtype=np.float64)
        if not self._classes:
            return {self._outputs[0]: numbers.reshape(frame.rows, -1)}
        if numbers.ndim == 1 or numbers.shape[1] == 1:
            flat = numbers.reshape(-1)
            numbers = np.stack([1 - flat, flat], axis=1)
        words = np.array(self._classes, dtype=np.int64 if _whole(self._classes) else np.str_)
        chosen = numbers.argmax(axis=1) if labels is None else labels
        return {self._outputs[0]: words[chosen], self._outputs[1]: numbers}

    def thresholds(self) -> Thresholds:
        """Return those of all trees."""
        return thresholds.listed() if self.boosted.words else self.boosted.forest.thresholds()

    def _known(self, frame: Frame) -> tuple[str, ...]:
        """Return the frame's names for the model's columns."""
        names, wide = self.boosted.names, self.boosted.forest.features
        if not names:
            if len(frame.names) != wide:
                raise InputError(
                    f"{self.estimator} was fitted on {wide} columns without names, the reference "
                    f"data has {len(frame.names)} besides the label",
                    hint="leave other columns out of the reference data, or fit on a DataFrame",
                    code="input.column",
                )
            return frame.names
        # LightGBM writes a_b for a column "a b".
        spelled = {"_".join(name.split(" ")): name for name in frame.names}
        return tuple(n if n in frame.columns else spelled.get(n, n) for n in names)

    def _split(self, frame: Frame) -> bool:
        """Return whether the graph has one input per column, and not a matrix."""
        return bool(self.boosted.names) or any(c.dtype == object for c in frame.columns.values())

    def _coded(self, frame: Frame) -> set[int]:
        """Return the columns with categories that hold these, and not their codes already."""
        return set(self.boosted.words) if self.boosted.names else {
            i for i, name in enumerate(frame.names)
            if i in self.boosted.words and frame.columns[name].dtype == object
        }  # fmt: skip

    def _table(self, frame: Frame) -> Estimator:
        if not self._split(frame):
            return np.stack(list(frame.columns.values()), axis=1)
        import pandas as pd

        names = self.boosted.names or frame.names
        coded = self._coded(frame)
        columns = {}
        for i, (name, column) in enumerate(zip(names, frame.columns.values(), strict=True)):
            if i in coded:
                words = _categories(column, self.boosted.words[i])
                if self.boosted.strict and words.cat.codes.max() >= len(self.boosted.words[i]):
                    raise ValueError(f"a category of {name!r} was not there in training")
                columns[name] = words
            else:
                columns[name] = pd.Series(column)
        return pd.DataFrame(columns)


def _categories(column: Array, known: Sequence[Word]) -> Estimator:
    """Return a pandas column of categories; others than the known ones stay what they are."""
    import pandas as pd

    if column.dtype == object:
        # A device sends the empty word for a missing one.
        listed = [None if word in (None, "") and "" not in known else word for word in column]
    else:
        listed = [None if value != value else value.item() for value in column]  # noqa: PLR0124
    others = sorted({word for word in listed if word is not None} - set(known), key=str)
    return pd.Series(pd.Categorical(listed, categories=[*known, *others]))


def classes_of(model: Boosted, named: tuple[str, ...] = ()) -> tuple[tuple[Word, ...], bool]:
    """Return the classes as labels have them, integers or words, and whether they are booleans.

    Args:
        model: whose classes.
        named: what a person calls them, by index; empty: as the model does.

    Raises:
        ConversionError: it has one class only, or fractions for classes.
        UsageError: another number of names than of classes.
    """
    classes = model.classes
    if not classes:
        return (), False
    if len(classes) == 1:
        raise ConversionError(
            f"{model.estimator} was fitted on the one class {classes[0]!r}, and answers nothing else",
            hint="fit it on data with two classes or more",
        )
    if named:
        if len(named) != len(classes):
            raise UsageError(f"--classes names {len(named)} classes, the model has {len(classes)}")
        return named, False
    if all(isinstance(c, bool | np.bool_) for c in classes):
        return tuple(int(c) for c in classes), True
    if all(isinstance(c, int | float | np.integer | np.floating) for c in classes):
        if all(float(c).is_integer() for c in classes):
            return tuple(int(c) for c in classes), False
        raise ConversionError(
            f"{model.estimator} has classes that are fractions: {', '.join(map(str, classes[:5]))}",
            hint="fit on integers or words as classes",
        )
    return tuple(map(str, classes)), False


def _whole(classes: Sequence[Word]) -> bool:
    return all(isinstance(c, int) for c in classes)


def package(what: str, name: str) -> Any:  # noqa: ANN401 - a module
    """Return a framework's module, or raise `UsageError` with the extra's name."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UsageError(
            f"{what} needs {name}, which is not installed here ({error})",
            hint=f"pip install 'whimbrel-packager[{name}]'",
            code="usage.extra",
        ) from error


def unreadable(path: Path, framework: str, error: Exception, hint: str) -> InputError:
    """Return the error for a file that a framework cannot load, with its own first line."""
    first = str(error).splitlines()[0] if str(error) else type(error).__name__
    return InputError(
        f"{path} cannot be loaded by {framework}: {first}", hint=hint, code="input.model"
    )


def several(estimator: str, outputs: int) -> ConversionError:
    """Return the refusal of a model with several values a row."""
    return ConversionError(
        f"{estimator} predicts {outputs} values a row at once, one is supported",
        hint="pack one model per value",
    )
