"""Pictures, embeddings and texts as columns: figures against a plain reading of their definition."""

from __future__ import annotations

import math
import unicodedata
from itertools import pairwise

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from whimbrel_core.errors import ProfileError
from whimbrel_core.profile.counting.accumulator import Accumulator
from whimbrel_core.profile.descriptors import (
    Descriptor,
    Embedding,
    Image,
    Text,
    describer,
    image,
    text,
)
from whimbrel_core.profile.feature import Feature
from whimbrel_core.profile.layout import Layout

PIXELS = (np.float32, np.float64, np.float16)


def picture_columns(pixels: np.ndarray) -> dict[str, float]:
    """Return the figures of one picture (C, H, W) with values from 0 to 1, as they are defined."""
    x = pixels.astype(np.float64)
    coloured = len(x) > 1
    luma = 0.299 * x[0] + 0.587 * x[1] + 0.114 * x[2] if coloured else x[0]
    around = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:]
    edges = around - 4 * luma[1:-1, 1:-1]
    found = {
        "brightness": luma.mean(),
        "contrast": luma.std(),
        "sharpness": math.sqrt((edges**2).mean()) if edges.size else math.nan,
        "dark": (luma <= 0.05).mean(),
        "burnt_out": (luma >= 0.98).mean(),
    }
    if coloured:
        found |= {
            "saturation": (x[:3].max(axis=0) - x[:3].min(axis=0)).mean(),
            "warmth": x[0].mean() - x[2].mean(),
            "tint": x[1].mean() - (x[0].mean() + x[2].mean()) / 2,
        }
    return found


@pytest.mark.parametrize(
    ("channels", "height", "width"),
    [(3, 24, 31), (1, 8, 8), (4, 5, 9), (3, 2, 7), (3, 300, 500), (1, 3, 40_000), (1, 1, 1)],
)
def test_a_picture_is_described_by_the_definitions_of_its_figures(
    channels: int, height: int, width: int
) -> None:
    """Small ones are read several at once, large ones in bands: both come to the same."""
    rng = np.random.default_rng(channels * height)
    pixels = rng.random((3, channels, height, width), dtype=np.float32)
    pixels[1] = pixels[1] * 0.2 + 0.85
    declared = Image(tensor="x", shape=(channels, height, width), layout="NCHW", range=(0, 1))
    made = describer(declared)(pixels)
    for picture, found in zip(pixels, made, strict=True):
        expected = picture_columns(picture)
        assert tuple(expected) == declared.columns
        np.testing.assert_allclose(found, np.array([*expected.values()]), atol=3e-5)


def test_the_order_of_dimensions_and_colours_the_type_and_the_range_change_no_figure() -> None:
    numbers = np.random.default_rng(3).integers(0, 256, (4, 3, 16, 20))
    reference = describer(Image(tensor="x", shape=(3, 16, 20), layout="NCHW", range=(0, 255)))(
        numbers.astype(np.uint8)
    )
    last = numbers.transpose(0, 2, 3, 1)
    ways: list[tuple[np.ndarray, Descriptor]] = [
        (
            last.astype(np.uint8),
            Image(tensor="x", shape=(16, 20, 3), layout="NHWC", range=(0, 255)),
        ),
        (
            last[..., ::-1].astype(np.int64),
            Image(tensor="x", shape=(16, 20, 3), layout="NHWC", range=(0, 255), colours="BGR"),
        ),
        (
            (numbers / 127.5 - 1).astype(np.float32),
            Image(tensor="x", shape=(3, 16, 20), layout="NCHW", range=(-1, 1)),
        ),
        (
            (numbers / 255).reshape(4, -1),
            Image(tensor="x", shape=(3, 16, 20), layout="NCHW", range=(0, 1)),
        ),
    ]
    for pixels, declared in ways:
        np.testing.assert_allclose(describer(declared)(pixels), reference, atol=1.01 / 65536)


def test_a_picture_with_a_broken_pixel_is_null_and_its_neighbours_are_not() -> None:
    pixels = np.full((4, 3, 6, 6), 0.5, np.float32)
    pixels[1, 2, 3, 3] = np.nan
    pixels[3, 0, 0, 0] = np.inf
    made = describer(Image(tensor="x", shape=(3, 6, 6), layout="NCHW", range=(0, 1)))(pixels)
    assert np.isnan(made[[1, 3]]).all()
    np.testing.assert_array_equal(made[0], [0.5, 0, 0, 0, 0, 0, 0, 0])
    np.testing.assert_array_equal(made[2], made[0])


def test_a_batch_of_pictures_is_never_copied_whole() -> None:
    import tracemalloc

    pixels = np.zeros((64, 3, 224, 224), np.uint8)
    describe = describer(Image(tensor="x", shape=(3, 224, 224), layout="NCHW", range=(0, 255)))
    tracemalloc.start()
    describe(pixels)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 1_200_000 < pixels.nbytes / 4


def embedding(centroids: np.ndarray) -> Embedding:
    return Embedding(
        tensor="e", size=centroids.shape[1], centroids=centroids.astype("<f4").tobytes()
    )


def test_an_embedding_is_described_by_its_norm_and_its_distances() -> None:
    rng = np.random.default_rng(0)
    centroids = rng.normal(size=(5, 40)).astype(np.float32)
    vectors = np.vstack([rng.normal(size=(1000, 40)), centroids[2], np.zeros(40)]).astype("f4")
    declared = embedding(centroids)
    made = describer(declared)(vectors.reshape(-1, 5, 8))
    apart = np.linalg.norm(vectors[:, None].astype(float) - centroids[None].astype(float), axis=2)
    assert declared.columns == (
        "norm",
        "distance",
        "nearest",
        *(f"distance[{i}]" for i in range(5)),
    )
    np.testing.assert_allclose(made[:, 0], np.linalg.norm(vectors.astype(float), axis=1), rtol=1e-6)
    np.testing.assert_allclose(made[:, 3:], apart, atol=1e-6)
    np.testing.assert_array_equal(made[:, 2], apart.argmin(axis=1))
    np.testing.assert_array_equal(made[:, 1], made[:, 3:].min(axis=1))
    assert made[1000, 1] == 0


@given(arrays.arrays(np.float32, (3, 4), elements=st.floats(width=32)))
def test_any_vector_has_distances_or_none_at_all(vectors: np.ndarray) -> None:
    made = describer(embedding(np.eye(4)[:2]))(vectors)
    finite = np.isfinite(vectors).all(axis=1)
    assert np.isnan(made[~finite]).all()
    assert not np.isnan(made[finite]).any()
    assert np.isin(made[finite][:, 2], [0, 1]).all()


def text_columns(written: str) -> list[float]:
    """Return the figures of one text, read character by character."""
    length = len(written)
    words = written.split()
    letters = [c for c in written if unicodedata.category(c)[0] in "LM"]
    foreign = [
        c
        for c in letters
        if unicodedata.category(c)[0] == "L" and not unicodedata.name(c, "").startswith(text.LATIN)
    ]
    counts = [
        len(letters),
        sum(unicodedata.category(c)[0] == "N" for c in written),
        sum(unicodedata.category(c)[0] in "PS" for c in written),
        sum(c.isspace() for c in written),
        sum(unicodedata.category(c) in {"Lu", "Lt"} for c in written),
        sum(ord(c) > 127 for c in written),
    ]
    again = sum(a == b for a, b in pairwise(written))
    return [
        length,
        len(words),
        sum(map(len, words)) / len(words) if words else math.nan,
        *([count / length for count in counts] if length else [math.nan] * 6),
        len(foreign) / len(letters) if letters else math.nan,
        again / length if length else math.nan,
    ]


WRITTEN = st.text(max_size=60) | st.text("aA1 .\néя日\u0301ª\uff21", max_size=60)


@given(st.lists(WRITTEN, min_size=1, max_size=6))
def test_any_text_alone_or_among_others_is_described_by_the_definitions(texts: list[str]) -> None:
    declared = Text(tensor="t")
    describe = describer(declared)
    expected = np.array([text_columns(written) for written in texts], np.float32)
    assert expected.shape[1] == len(declared.columns)
    together = describe(np.array([*texts, None], object)[:-1])
    np.testing.assert_array_equal(together, expected)
    alone = [describe(np.array([[written]], object)) for written in texts]
    np.testing.assert_array_equal(np.vstack(alone), expected)


def test_a_missing_text_is_null_bytes_are_read_and_a_long_text_only_in_its_beginning() -> None:
    describe = describer(Text(tensor="t"))
    texts = np.array([None, float("nan"), "Über 9000!".encode(), b"\xff", "x" * 70_000], object)
    made = describe(texts)
    assert np.isnan(made[:2]).all()
    np.testing.assert_array_equal(made[2], np.array(text_columns("Über 9000!"), np.float32))
    np.testing.assert_array_equal(made[3], np.array(text_columns("\ufffd"), np.float32))
    assert made[4].tolist()[:4] == [70_000, 1, text.LONGEST, 1]
    many = np.array([f"{i}{'ab' * 9_000}" for i in range(9)], object)
    for written, found in zip(many, describe(many), strict=True):
        np.testing.assert_array_equal(describe(np.array([written], object))[0], found)
    assert np.isnan(describe(texts[:1])).all()
    assert describe(np.array([], object)).shape == (0, 11)


@pytest.mark.parametrize(
    ("declared", "tensor", "complaint"),
    [
        (Text(tensor="t"), np.zeros((2, 1)), "holds float64 numbers"),
        (Text(tensor="t"), np.array([["a", "b"]], object), "one text a row"),
        (Text(tensor="t"), np.array(["a", 3], object), "holds a int"),
        (embedding(np.eye(3)), np.zeros((2, 4)), "4 numbers a row; its embeddings have 3"),
        (embedding(np.eye(3)), np.array([["a"] * 3]), "something else"),
        (
            Image(tensor="x", shape=(3, 4, 4), layout="NCHW", range=(0, 1)),
            np.zeros((2, 4, 4, 3)),
            r"rows of shape \(4, 4, 3\); its pictures have \(3, 4, 4\) \(NCHW\)",
        ),
        (
            Image(tensor="x", shape=(3, 4, 4), layout="NCHW", range=(0, 1)),
            np.array(["a"]),
            "something else",
        ),
    ],
)
def test_a_tensor_that_does_not_fit_is_refused(
    declared: Descriptor, tensor: np.ndarray, complaint: str
) -> None:
    with pytest.raises(ProfileError, match=complaint):
        describer(declared)(tensor)


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: Embedding(tensor="e", size=3, centroids=b"12345678"), "8 bytes are no centroids"),
        (lambda: Embedding(tensor="e", size=1, centroids=bytes(4 * 17)), "17 centroids"),
        (lambda: Embedding(tensor="e", size=65_537, centroids=bytes(4 * 65_537)), "are allowed"),
        (lambda: Embedding(tensor="e", size=0, centroids=b""), "1 to"),
        (lambda: embedding(np.array([[1, np.nan]])), "not finite"),
        (
            lambda: Image(tensor="x", shape=(8, 8, 3), layout="NCHW", range=(0, 1)),
            "has 8 channels; 1, 3 or 4",
        ),
        (lambda: Image(tensor="x", shape=(3, 0, 8), layout="NCHW", range=(0, 1)), "1 to"),
        (
            lambda: Image(tensor="x", shape=(3, 8, 8), layout="NCHW", range=(1, 1)),
            "from the number",
        ),
    ],
)
def test_a_descriptor_that_cannot_be_is_refused(make: object, complaint: str) -> None:
    with pytest.raises(ProfileError, match=complaint):
        make()  # type: ignore[operator]


def layout(*descriptors: Descriptor, column: int = 0) -> Layout:
    features = [
        Feature(
            name=f"{descriptor.tensor}.{descriptor.columns[column]}",
            kind="numeric",
            role="input",
            tensor=descriptor.name,
            column=column,
            edges=(0.25, 0.5),
        )
        for descriptor in descriptors
    ]
    plain = Feature(name="a", kind="numeric", role="input", tensor="a", edges=(0.5,))
    return Layout(task="regression", features=(*features, plain), descriptors=descriptors)


def test_a_layout_counts_what_its_descriptors_make() -> None:
    declared = Image(tensor="x", shape=(1, 4, 4), layout="NCHW", range=(0, 255))
    accumulator = Accumulator(layout(declared, Text(tensor="t")))
    dark, light = np.zeros((1, 4, 4), np.uint8), np.full((1, 4, 4), 200, np.uint8)
    accumulator.update(
        {
            "x": np.stack([dark, dark, light]),
            "t": np.array(["", "a", None], object),
            "a": np.array([0.0, 1.0, 2.0]),
        }
    )
    accumulator.update({"x": light[None], "a": np.zeros((1, 1))})
    window = accumulator.window(0, 1)
    assert [(counts.cells, counts.nulls) for counts in window.features] == [
        ((2, 0, 2), 0),
        ((1, 0, 1), 2),
        ((2, 2), 0),
    ]


def test_what_does_not_fit_a_descriptor_is_not_counted_at_all() -> None:
    declared = Image(tensor="x", shape=(1, 4, 4), layout="NCHW", range=(0, 255))
    accumulator = Accumulator(layout(declared))
    with pytest.raises(ProfileError, match="rows of shape"):
        accumulator.update({"x": np.zeros((2, 4, 5, 1)), "a": np.zeros(2)})
    with pytest.raises(ProfileError, match="has 1 rows, another 2"):
        accumulator.update({"x": np.zeros((2, 1, 4, 4)), "a": np.zeros(1)})
    with pytest.raises(ProfileError, match="none of the tensors") as refused:
        accumulator.update({"y": np.zeros((2, 1))})
    assert "made for: a, x" in (refused.value.hint or "")
    assert accumulator.rows == 0


def test_a_layout_keeps_its_descriptors_and_they_decide_its_identity() -> None:
    one = layout(embedding(np.eye(3)))
    again = msgspec.msgpack.decode(msgspec.msgpack.encode(one), type=Layout)
    assert again == one
    assert msgspec.json.decode(msgspec.json.encode(one), type=Layout) == one
    assert again.profile_id == one.profile_id != layout(embedding(2 * np.eye(3))).profile_id
    whole = layout(Image(tensor="x", shape=(1, 4, 4), layout="NCHW", range=(0, 255)))
    read = msgspec.msgpack.decode(msgspec.msgpack.encode(whole), type=Layout)
    assert read.profile_id == whole.profile_id
    with pytest.raises(ProfileError, match="declared twice: t#text"):
        msgspec.structs.replace(one, descriptors=(Text(tensor="t"), Text(tensor="t")))
    with pytest.raises(ProfileError, match="5 columns, none of them is 9"):
        msgspec.structs.replace(
            layout(Image(tensor="x", shape=(1, 4, 4), layout="NCHW", range=(0, 1))),
            features=(Feature(name="b", kind="numeric", role="input", tensor="x#image", column=9),),
        )


def test_thresholds_of_dark_and_burnt_out_are_as_documented() -> None:
    assert image.__doc__ is not None
    assert f"≤ {image.DARK:.2g}".replace("0.", ".") in image.__doc__
    assert f"≥ {image.BURNT_OUT:.2g}".replace("0.", ".") in image.__doc__
