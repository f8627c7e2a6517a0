"""Tensors that are described instead of counted number by number: as declared, or as is obvious.

Obvious, unless the recipe says otherwise, are

- an image: an input of rank 4 with 1, 3 or 4 channels, on one side only;
- an embedding: an input or output of more than 64 floats a row that nobody named one by one;
- a text: a column of strings of which most differ.

What makes the columns is `whimbrel_core.profile.descriptors`, the same code as on a device. Only
the centroids of embeddings are found here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec
import numpy as np

from whimbrel_core.errors import ConfigError, ProfileError, UsageError
from whimbrel_core.profile.building.columns import ColumnSpec
from whimbrel_core.profile.descriptors import Descriptor, Embedding, Image, Text, describer
from whimbrel_core.profile.descriptors.declared import MAX_CENTROID_BYTES, MAX_CENTROIDS
from whimbrel_core.profile.feature import MAX_VOCABULARY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from whimbrel_core.profile.feature import Role

    Array = np.ndarray[Any, Any]

WIDE = 64  # numbers a row, from where a tensor without names is an embedding
_VECTOR, _PICTURE = 1, 3  # dimensions of a row
_CHANNELS = (1, 3, 4)
_FLOAT_BYTES = 4
_SAMPLE_ROWS = 10_000
_SAMPLE_NUMBERS = 1 << 24
_CENTROID_BITS = 16  # kept of a centroid: what another machine's sums do not change
_DISCRETE = ("nearest",)


class Describe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How one input or output is to be profiled.

    Args:
        tensor: its name.
        kind: what it is; "columns" counts its numbers (or words) one by one, as in a table.
        layout: of an image; "" where its channels are on one side only.
        shape: of one image in flat rows, in the order of ``layout``.
        range: the numbers of black and white in an image; None: from the reference data.
        colours: order of an image's channels.
        centroids: at most so many of an embedding.
        seed: of the search for them.
    """

    tensor: str
    kind: Literal["image", "embedding", "text", "columns"]
    layout: Literal["", "NCHW", "NHWC"] = ""
    shape: tuple[int, ...] = ()
    range: tuple[float, float] | None = None
    colours: Literal["RGB", "BGR"] = "RGB"
    centroids: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what does not belong together."""
        where = f"profile.describe ({self.tensor})"
        plain = Describe.__struct_defaults__
        given = (self.layout, self.shape, self.range, self.colours, self.centroids, self.seed)
        named = ("layout", "shape", "range", "colours", "centroids", "seed")
        own = {"image": named[:4], "embedding": named[4:]}.get(self.kind, ())
        for name, value, usual in zip(named, given, plain, strict=True):
            if value != usual and name not in own:
                raise ConfigError(f"{where}: {name} says nothing about kind {self.kind!r}")
        if self.shape and len(self.shape) != _PICTURE:
            raise ConfigError(f"{where}: the shape of an image is three numbers, got {self.shape}")
        if not 1 <= self.centroids <= MAX_CENTROIDS:
            raise ConfigError(f"{where}: centroids are 1 to {MAX_CENTROIDS}, got {self.centroids}")


class Source(NamedTuple):
    """An input or output that may be described.

    Attributes:
        tensor: its name.
        role: whether the model reads or makes it.
        tail: shape of one row.
        dtype: of its reference values.
        named: whether each of its numbers has a name or a meaning of its own.
        values: returns the reference values, (n, …).
    """

    tensor: str
    role: Role
    tail: tuple[int, ...]
    dtype: np.dtype[Any]
    named: bool
    values: Callable[[], Array]


class Described(NamedTuple):
    """What stands in the profile in place of some tensors.

    Attributes:
        descriptors: of the layout.
        columns: that they make of the reference rows.
        tensors: that are described.
    """

    descriptors: tuple[Descriptor, ...]
    columns: list[ColumnSpec]
    tensors: frozenset[str]


def describe(
    sources: Sequence[Source], declared: Sequence[Describe], taken: Iterable[str] = ()
) -> Described:
    """Return the descriptors of some tensors, and what these say of the reference rows.

    Args:
        sources: the model's inputs and outputs.
        declared: in the recipe.
        taken: names of features that must not be used again.

    Raises:
        UsageError: something is declared that the model does not have, or that it cannot be.
    """
    known = {source.tensor: source for source in sources}
    for one in declared:
        if one.tensor not in known:
            raise UsageError(
                f"profile.describe names {one.tensor!r}, which is no input or output of the model",
                hint=f"it has {', '.join(sorted(known)[:20])}",
            )
    said = {one.tensor for one in declared}
    chosen = [(known[one.tensor], one) for one in declared if one.kind != "columns"]
    for source in sources:
        guess = _obvious(source) if source.tensor not in said else None
        if guess is not None:
            chosen.append((source, guess))
    names = set(taken)
    descriptors: list[Descriptor] = []
    columns: list[ColumnSpec] = []
    for source, one in chosen:
        values = source.values()
        descriptor = _descriptor(source, one, values)
        descriptors.append(descriptor)
        try:
            made = describer(descriptor)(values)
        except ProfileError as error:
            raise UsageError(f"profile.describe: {error.message}", hint=error.hint) from error
        for i, column in enumerate(descriptor.columns):
            name = f"{source.tensor}.{column}"
            name = f"{descriptor.name}.{column}" if name in names else name
            names.add(name)
            columns.append(
                ColumnSpec(
                    name=name,
                    role=source.role,
                    tensor=descriptor.name,
                    column=i,
                    values=made[:, i],
                    kind="discrete" if column in _DISCRETE else None,
                )
            )
    return Described(tuple(descriptors), columns, frozenset(s.tensor for s, _ in chosen))


def note(descriptor: Descriptor, declared: Sequence[Describe]) -> str:
    """Return what a person should know of how a tensor is profiled."""
    if isinstance(descriptor, Image):
        black, white = descriptor.range
        what = f"an image ({descriptor.layout}, {black:g} is black, {white:g} is white)"
    elif isinstance(descriptor, Embedding):
        what = f"an embedding of {descriptor.size} numbers ({descriptor.count} centroids)"
    else:
        what = "text"
    said = any(one.tensor == descriptor.tensor for one in declared)
    wrong = "" if said else "; declare it in [[profile.describe]] if that is wrong"
    return f"{descriptor.tensor!r} is profiled as {what}{wrong}"


def _obvious(source: Source) -> Describe | None:
    """Return what a tensor is without being told; None: numbers or words, as in a table."""
    if source.named:
        return None
    if source.dtype.kind == "O":
        return Describe(source.tensor, "text") if _mostly_differ(source.values()) else None
    if len(source.tail) == _PICTURE and source.role == "input" and _layouts(source.tail) in _SIDES:
        return Describe(source.tensor, "image")
    wide = len(source.tail) == _VECTOR and source.tail[0] > WIDE
    if wide and source.dtype.kind == "f" and source.tail[0] * _FLOAT_BYTES <= MAX_CENTROID_BYTES:
        any_finite = np.isfinite(source.values()).all(axis=1).any()
        return Describe(source.tensor, "embedding") if any_finite else None
    return None


_SIDES = (["NCHW"], ["NHWC"])


def _layouts(shape: tuple[int, ...]) -> list[str]:
    """Return the orders of dimensions in which ``shape`` could be an image."""
    sides = (("NCHW", shape[0]), ("NHWC", shape[-1]))
    return [layout for layout, channels in sides if channels in _CHANNELS]


def _mostly_differ(texts: Array) -> bool:
    present = [text for text in texts.reshape(-1).tolist() if text is not None]
    different = len(set(present))
    return different > MAX_VOCABULARY and 2 * different > len(present)


def _descriptor(source: Source, one: Describe, values: Array) -> Descriptor:
    if one.kind == "text":
        return Text(tensor=source.tensor)
    if values.dtype.kind not in "fiub":
        raise UsageError(
            f"profile.describe: {source.tensor!r} holds words and is no {one.kind}",
            hint='declare it as kind = "text"',
        )
    try:
        return _image(source, one, values) if one.kind == "image" else _embedding(one, values)
    except ProfileError as error:
        raise UsageError(f"profile.describe: {error.message}", hint=error.hint) from error


def _image(source: Source, one: Describe, values: Array) -> Image:
    shape = one.shape or source.tail
    if len(shape) != _PICTURE or np.prod(shape) != np.prod(source.tail):
        raise UsageError(
            f"profile.describe: {source.tensor!r} has rows of shape {source.tail}, which are no "
            f"images{f' of shape {one.shape}' if one.shape else ''}",
            hint="give the shape of one image, e.g. shape = [3, 64, 64]",
        )
    layouts = [one.layout] if one.layout else _layouts(shape)
    if len(layouts) != 1:
        raise UsageError(
            f"profile.describe: where the channels of {source.tensor!r} are is not clear from its "
            f"shape {shape}",
            hint='say layout = "NCHW" or "NHWC"; images have 1, 3 or 4 channels',
        )
    return Image(
        tensor=source.tensor,
        shape=(shape[0], shape[1], shape[2]),
        layout="NCHW" if layouts == ["NCHW"] else "NHWC",
        range=one.range or _range(values),
        colours=one.colours,
    )


def _range(values: Array) -> tuple[float, float]:
    """Return the numbers of black and white that images with these values are likely to have."""
    if values.dtype in (np.uint8, np.int8):
        ends = np.iinfo(values.dtype)
        return float(ends.min), float(ends.max)
    # Row by row: a mask over all of them would be as large as a quarter of the data.
    lows, highs = [], []
    for picture in values:
        finite = picture[np.isfinite(picture)]
        if len(finite):
            lows.append(float(finite.min()))
            highs.append(float(finite.max()))
    low, high = (min(lows), max(highs)) if lows else (0.0, 1.0)
    usual = ((0.0, 1.0), (0.0, 255.0), (-1.0, 1.0))
    for black, white in usual if values.dtype.kind == "f" else usual[1:]:
        if black <= low and high <= white:
            return black, white
    return low, high


def _embedding(one: Describe, values: Array) -> Embedding:
    vectors = values.reshape(len(values), -1)
    found = centroids(vectors, one.centroids, one.seed)
    if not len(found):
        raise UsageError(
            f"profile.describe: no row of {one.tensor!r} in the reference data is finite"
        )
    return Embedding(
        tensor=one.tensor, size=vectors.shape[1], centroids=found.astype("<f4").tobytes()
    )


def centroids(vectors: Array, most: int, seed: int) -> Array:
    """Return at most ``most`` centroids (k, d) float32 of (n, d) vectors, the largest cluster first.

    By k-means (scikit-learn's) of up to 10,000 of the rows that are finite. Equal rows give equal
    centroids: they are rounded to 16 bits, far from the 53 in which sums of threads differ.
    """
    from sklearn.cluster import KMeans

    size = vectors.shape[1]
    limit = max(1, min(_SAMPLE_ROWS, _SAMPLE_NUMBERS // size))
    finite = np.flatnonzero(np.isfinite(vectors).all(axis=1))
    if not len(finite):
        return np.zeros((0, size), np.float32)
    picked = finite[np.linspace(0, len(finite) - 1, min(len(finite), limit)).astype(np.int64)]
    sample = np.unique(vectors[np.unique(picked)].astype(np.float64), axis=0)
    count = min(most, len(sample), max(1, MAX_CENTROID_BYTES // (size * _FLOAT_BYTES)))
    # Of different rows: rows that repeat would only say again where most of them are.
    model = KMeans(n_clusters=count, n_init=3, random_state=seed).fit(sample)
    found: Array = model.cluster_centers_
    step = 2.0 ** (np.floor(np.log2(np.abs(found).max() or 1.0)) + 1 - _CENTROID_BITS)
    rounded = (np.rint(found / step) * step).astype(np.float32)
    sizes = np.bincount(model.labels_, minlength=count)
    order = np.lexsort((*rounded.T[:1], -sizes))
    return np.ascontiguousarray(rounded[order])
