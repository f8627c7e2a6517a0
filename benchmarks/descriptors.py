"""Descriptors: what it costs to say of a picture, an embedding or a text how it looks.

One thread, as in a worker: rows one by one, as most requests come, and in batches. Beside each
figure stands what is usually written in its place, of the same rows in the same run: the same
figures in plain numpy for pictures and vectors, a loop over characters for texts. Run it with
``python -m benchmarks.descriptors``.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as the worker sets it, before numpy's import

import argparse
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.profile import Line, micros, table
from whimbrel_core.profile.building.columns import ColumnSpec
from whimbrel_core.profile.building.reference import build
from whimbrel_core.profile.counting.accumulator import Accumulator
from whimbrel_core.profile.descriptors import Descriptor, Embedding, Image, Text, describer

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

BATCH = 64
DIMENSIONS, CENTROIDS = 384, 8
CHARACTERS = 100
_LUMA = np.array([0.299, 0.587, 0.114])
_SAID = "the ship was LATE because of fog over bay 12, naïve – Привет! and again so on"


def pictures(side: int, *, as_bytes: bool) -> tuple[Image, NDArray[Any]]:
    """Return random pictures: float32 NCHW as networks take them, or uint8 NHWC as cameras give."""
    x = np.random.default_rng(0).random((BATCH, 3, side, side), dtype=np.float32)
    if not as_bytes:
        return Image(tensor="x", shape=(3, side, side), layout="NCHW", range=(0, 1)), x
    last = np.ascontiguousarray((x.transpose(0, 2, 3, 1) * 255).astype(np.uint8))
    return Image(tensor="x", shape=(side, side, 3), layout="NHWC", range=(0, 255)), last


def plain_picture(declared: Image, picture: NDArray[Any]) -> list[float]:
    """Return the same figures of one picture as they are usually written."""
    low, high = declared.range
    x = (picture.astype(np.float64) - low) / (high - low)
    x = x if declared.layout == "NHWC" else x.transpose(1, 2, 0)
    grey = x @ _LUMA
    edges = -4 * grey[1:-1, 1:-1] + grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2]
    edges += grey[1:-1, 2:]
    red, green, blue = x.mean(axis=(0, 1))
    return [
        grey.mean(), grey.std(), edges.std(), (grey <= 0.05).mean(), (grey >= 0.98).mean(),
        np.ptp(x, axis=2).mean(), red - blue, green - (red + blue) / 2,
    ]  # fmt: skip


def embeddings() -> tuple[Embedding, NDArray[np.float32]]:
    rng = np.random.default_rng(0)
    centroids = rng.normal(size=(CENTROIDS, DIMENSIONS)).astype("<f4")
    declared = Embedding(tensor="x", size=DIMENSIONS, centroids=centroids.tobytes())
    return declared, rng.normal(size=(BATCH, DIMENSIONS)).astype(np.float32)


def plain_embedding(centroids: NDArray[np.float32], vector: NDArray[np.float32]) -> object:
    """Return norm, distances and the nearest of one vector as they are usually written."""
    apart = np.linalg.norm(centroids - vector, axis=1)
    return np.linalg.norm(vector), apart, apart.argmin(), apart.min()


def texts() -> tuple[Text, NDArray[Any]]:
    rng = np.random.default_rng(0)
    said = [" ".join(rng.choice(_SAID.split(), CHARACTERS))[:CHARACTERS] for _ in range(BATCH)]
    return Text(tensor="x"), np.array(said, object)


def plain_text(text: str) -> list[float]:
    """Return the same counts of one text, character by character."""
    letters = digits = spaces = upper = beyond = again = other = 0
    before = ""
    for character in text:
        if character.isalpha():
            letters += 1
            other += character > "\u024f"
        elif character.isdigit():
            digits += 1
        elif character.isspace():
            spaces += 1
        upper += character.isupper()
        beyond += not character.isascii()
        again += character == before
        before = character
    n, words = len(text), len(text.split())
    marks = n - letters - digits - spaces
    shares = [count / n for count in (letters, digits, marks, spaces, upper, beyond, again)]
    return [n, words, (n - spaces) / words, other / letters, *shares]


def counting(declared: Descriptor, rows: NDArray[Any]) -> tuple[float, int]:
    """Return µs per row through an accumulator one by one, and bytes of the baseline."""
    made = describer(declared)(rows)
    baseline = build(
        [
            ColumnSpec(f"x.{name}", "input", declared.name, i, made[:, i])
            for i, name in enumerate(declared.columns)
        ],
        task="regression",
        descriptors=[declared],
    )
    accumulator = Accumulator(baseline)
    single = [{"x": rows[i : i + 1]} for i in range(len(rows))]

    def one_by_one() -> None:
        for tensors in single:
            accumulator.update(tensors)

    return micros(one_by_one) / len(rows), len(baseline.encode())


def lines_of(
    what: str, declared: Descriptor, rows: NDArray[Any], usual: Callable[[Any], object], name: str
) -> list[Line]:
    """Return the lines of one kind of rows."""
    describe = describer(declared)
    singles = [rows[i : i + 1] for i in range(len(rows))]

    def one_by_one() -> None:
        for row in singles:
            describe(row)

    def usually() -> None:
        for row in rows:
            usual(row)

    plain = micros(usually) / len(rows)
    counted, held = counting(declared, rows)
    return [
        Line(f"{what}, one by one", micros(one_by_one) / BATCH, "µs/row", None, name, plain),
        Line(f"{what}, batched", micros(lambda: describe(rows)) / BATCH, "µs/row", None, name, plain),
        Line(f"{what}, described and counted", counted, "µs/row"),
        Line(f"{what}, baseline in a bundle", held / 1000, "kB"),
    ]  # fmt: skip


def measured() -> list[Line]:
    """Measure everything."""
    lines = []
    for side in (64, 224):
        for as_bytes in (False, True):
            declared, rows = pictures(side, as_bytes=as_bytes)
            kind = "uint8" if as_bytes else "float32"
            lines += lines_of(
                f"{side} × {side} {kind}",
                declared,
                rows,
                lambda row, declared=declared: plain_picture(declared, row),  # type: ignore[misc]
                "plain numpy",
            )
    declared_vector, vectors = embeddings()
    centroids = np.frombuffer(declared_vector.centroids, "<f4").reshape(CENTROIDS, -1)
    lines += lines_of(
        f"embedding of {DIMENSIONS}",
        declared_vector,
        vectors,
        lambda row: plain_embedding(centroids, row),
        "plain numpy",
    )
    declared_text, said = texts()
    lines += lines_of(f"text of {CHARACTERS}", declared_text, said, plain_text, "a Python loop")
    return lines


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    chosen = parser.parse_args()
    lines = measured()
    if chosen.json:
        print(json.dumps([line._asdict() for line in lines]))
        return
    print(f"batches of {BATCH} rows, one thread")
    print(table(lines))


if __name__ == "__main__":
    main()
