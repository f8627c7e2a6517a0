"""Keras and TensorFlow."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

# As the packager's own process has it: oneDNN makes other sums, and 0 of NaN.
os.environ.update(TF_ENABLE_ONEDNN_OPTS="0", TF_CPP_MIN_LOG_LEVEL="3", KERAS_BACKEND="tensorflow")
import keras
from keras import layers

from tests.packager.corpus.case import Case, Given

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    Array = np.ndarray[Any, Any]

SOURCE = "Keras and TensorFlow"
CLASSES = ("low", "mid", "high")
LOGITS = {"output": "logits"}
GUARD = ("missing values stay missing",)


class Asked(NamedTuple):
    """A model with what its numbers mean."""

    model: Any
    layer: str = "softmax"
    classes: tuple[str, ...] = ()


def ask(asked: Asked, rows: Any) -> dict[str, Any]:  # noqa: ANN401 - as a case has them
    """Return the model's own answers; a missing number is no row of a network."""
    if hasattr(rows, "columns"):
        rows = {name: rows[name].to_numpy() for name in rows.columns}
    given = list(rows.values()) if isinstance(rows, dict) else [rows]
    for values in given:
        if values.dtype.kind == "f" and np.isnan(values).any():
            raise ValueError("a number is missing")
        if values.dtype == object and any(not isinstance(word, str) for word in values):
            raise ValueError("a word is missing")
    tensors = [
        keras.ops.convert_to_tensor(v.tolist() if v.dtype == object else v)
        for v in (np.reshape(v, (-1, 1)) if v.ndim == 1 else v for v in given)
    ]
    made = asked.model(tensors if len(tensors) > 1 else tensors[0], training=False)
    numbers = np.asarray(made[0] if isinstance(made, list | tuple) else made, dtype=np.float64)
    if not asked.layer:
        return {"value": numbers}
    if asked.layer == "softmax":
        numbers = np.exp(numbers - numbers.max(1, keepdims=True))
        numbers /= numbers.sum(1, keepdims=True)
    if numbers.shape[1] == 1:
        numbers = np.concatenate([1 - numbers, numbers], axis=1)
    best = numbers.argmax(1)
    return {
        "label": np.array(asked.classes)[best] if asked.classes else best,
        "probabilities": numbers,
    }


def rows(*shape: int, rows: int = 120) -> Array:
    return np.random.default_rng(3).normal(size=(rows, *shape)).astype(np.float32)


def stacked(shape: tuple[int, ...], *parts: Any, dtype: str | None = None) -> Any:  # noqa: ANN401
    keras.utils.set_random_seed(1)
    return keras.Sequential([keras.Input(shape, dtype=dtype), *parts])


def attention() -> Any:  # noqa: ANN401
    steps = keras.Input((6, 16))
    mixed = layers.LayerNormalization()(layers.MultiHeadAttention(2, 8)(steps, steps) + steps)
    return keras.Model(steps, layers.Dense(3)(layers.GlobalAveragePooling1D()(mixed)))


def two_inputs() -> Any:  # noqa: ANN401
    wide, deep = keras.Input((3,), name="wide"), keras.Input((4,), name="deep")
    joined = layers.Concatenate()([wide, deep])
    return keras.Model([wide, deep], [layers.Dense(3)(joined), layers.Dense(1)(wide)])


def normalised() -> Any:  # noqa: ANN401
    scaled = layers.Normalization()
    scaled.adapt(rows(8) * 7 + 3)
    return stacked((8,), scaled, layers.Dense(8, activation="tanh"), layers.Dense(1))


def words() -> Any:  # noqa: ANN401
    word, number = keras.Input((1,), dtype="string", name="word"), keras.Input((1,), name="number")
    known = layers.StringLookup(vocabulary=["a", "b", "c"], output_mode="one_hot")(word)
    return keras.Model([word, number], layers.Dense(3)(layers.Concatenate()([known, number])))


def binned() -> Any:  # noqa: ANN401
    number = keras.Input((1,), name="number")
    bins = layers.Discretization(bin_boundaries=[-0.5, 0.0, 0.75])(number)
    return keras.Model(number, layers.Dense(1)(layers.CategoryEncoding(4, "one_hot")(bins)))


def table() -> dict[str, Array]:
    rng = np.random.default_rng(3)
    return {"word": rng.choice(["a", "b", "c", "d"], 120), "number": rows(1)[:, 0]}


class Doubled(layers.Layer):
    """A layer of somebody's own."""

    def call(self, x: Any) -> Any:  # noqa: ANN401
        return x * 2


def model(
    make: Callable[[], Any],
    data: object,
    options: Mapping[str, object] = LOGITS,
    layer: str = "softmax",
) -> Callable[[Path], Given]:
    """Return how a model in memory is given."""

    def given(_folder: Path) -> Given:
        keras.utils.set_random_seed(1)
        made = make()
        return Given(
            made, data, options, Asked(made, layer, CLASSES if "classes" in options else ())
        )

    return given


def kept(make: Callable[[], Any], data: object, name: str) -> Callable[[Path], Given]:
    """Return how a saved model is given: as a ``.keras`` file, or as a SavedModel's folder."""

    def given(folder: Path) -> Given:
        keras.utils.set_random_seed(1)
        made = make()
        if name.endswith(".keras"):
            made.save(folder / name)
        else:
            made.export(str(folder / name), verbose=False)
        return Given(folder / name, data, LOGITS, Asked(made))

    return given


def small() -> Any:  # noqa: ANN401
    return stacked((8,), layers.Dense(8, activation="relu"), layers.Dense(3))


CASES = [
    Case(
        "sequential with batch norm and dropout",
        model(
            lambda: stacked((8,), layers.Dense(8, activation="relu"), layers.BatchNormalization(),
                            layers.Dropout(0.4), layers.Dense(3, activation="softmax")),
            rows(8),
            {"classes": CLASSES},
            "none",
        ),
    ),
    Case("sequential file", kept(small, rows(8), "model.keras")),
    Case("SavedModel", kept(small, rows(8), "saved")),
    Case("SavedModel with a string lookup", kept(words, table(), "saved"),
         rewrites=("lookup table as LabelEncoder",)),
    Case("one share", model(lambda: stacked((8,), layers.Dense(1, activation="sigmoid")), rows(8),
                            {"output": "probabilities"}, "none")),
    Case("regression with Normalization", model(normalised, rows(8), {}, "")),
    Case("exact GELU", model(lambda: stacked((8,), layers.Dense(8, activation="gelu"), layers.Dense(3)),
                             rows(8)), rewrites=("Erfc as 1 − Erf",)),
    Case("string lookup", model(words, table()), rewrites=("lookup table as LabelEncoder",)),
    Case("Discretization", model(binned, {"number": rows(1)[:, 0]}, {}, ""),
         rewrites=("Bucketize as comparisons",)),
    Case("convolutions and pooling", model(
        lambda: stacked((12, 12, 1), layers.Conv2D(4, 3, activation="relu"), layers.MaxPooling2D(),
                        layers.Flatten(), layers.Dense(3)), rows(12, 12, 1, rows=40))),
    Case("LSTM", model(lambda: stacked((6, 4), layers.LSTM(8), layers.Dense(2)), rows(6, 4, rows=40)),
         rewrites=GUARD),
    Case("GRU", model(lambda: stacked((6, 4), layers.GRU(8), layers.Dense(2)), rows(6, 4, rows=40))),
    Case("embedding", model(
        lambda: stacked((6,), layers.Embedding(20, 4), layers.GlobalAveragePooling1D(),
                        layers.Dense(3), dtype="int32"),
        {"words": np.random.default_rng(3).integers(0, 20, (80, 6))})),
    Case("images of bytes", model(
        lambda: stacked((8, 8, 3), layers.Rescaling(1 / 255), layers.Conv2D(4, 3, activation="relu"),
                        layers.GlobalAveragePooling2D(), layers.Dense(3), dtype="uint8"),
        np.random.default_rng(3).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8))),
    Case("attention", model(attention, rows(6, 16, rows=40))),
    Case("two inputs, two outputs", model(two_inputs, {"wide": rows(3), "deep": rows(4)})),
    Case("a layer of one's own, from memory",
         model(lambda: stacked((8,), Doubled(), layers.Dense(3)), rows(8))),
    Case("a layer of one's own, from a file",
         kept(lambda: stacked((8,), Doubled(), layers.Dense(3)), rows(8), "model.keras"),
         refused="usage.pickle", says="the class 'Doubled'"),
    Case("a lambda, from a file",
         kept(lambda: stacked((8,), layers.Lambda(lambda x: x * 2), layers.Dense(3)), rows(8),
              "model.keras"),
         refused="usage.pickle", says="a lambda"),
    Case("logits that nobody named", model(small, rows(8), {}),
         refused="conversion.failed", says="nothing says what they are"),
    Case("a batch of fixed size",
         model(lambda: keras.Sequential([keras.Input(batch_shape=(4, 8)), layers.Dense(3)]), rows(8)),
         refused="conversion.failed", says="the first dimension must be the batch, and free"),
]  # fmt: skip
