"""Which descriptor a layout declares for which tensor, and which columns it makes.

Read where numpy must not be (a device's control process), so it is not imported here.
"""

from __future__ import annotations

import math
import struct
from typing import ClassVar, Literal, Union

import msgspec

from whimbrel_core.errors import ProfileError

Order = Literal["NCHW", "NHWC"]
Colours = Literal["RGB", "BGR"]

MAX_DESCRIPTORS = 16
MAX_CENTROIDS = 16
# Of one embedding: 8 centroids of 4096 numbers fit in half of it. Layouts stay small enough to be
# read whole on a device and to be hashed at every start.
MAX_CENTROID_BYTES = 256 * 1024
MAX_SIZE = 1 << 24  # numbers in one row of a tensor: a 2048 × 2048 picture in four channels
_FLOAT_BYTES = 4
_GREY, _COLOUR, _COLOUR_WITH_ALPHA = 1, 3, 4


class Embedding(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="embedding", gc=False
):
    """How far vectors lie from the origin and from the middles of the reference data.

    Args:
        tensor: input or output that holds them, (n, …).
        size: numbers in one vector.
        centroids: (k, size) little-endian float32, row by row; the one that most reference rows
            are nearest to comes first.
    """

    kind: ClassVar[str] = "embedding"

    tensor: str
    size: int
    centroids: bytes = b""

    def __post_init__(self) -> None:
        """Refuse centroids that do not fit the vectors."""
        _require_size(self.name, self.size)
        row = self.size * _FLOAT_BYTES
        if not self.centroids or len(self.centroids) % row:
            raise ProfileError(
                f"descriptor {self.name!r}: {len(self.centroids)} bytes are no centroids of "
                f"{self.size} float32 numbers each"
            )
        if self.count > MAX_CENTROIDS or len(self.centroids) > MAX_CENTROID_BYTES:
            raise ProfileError(
                f"descriptor {self.name!r}: {self.count} centroids of {self.size} numbers; "
                f"{MAX_CENTROIDS} and {MAX_CENTROID_BYTES} bytes are allowed",
                hint="declare fewer centroids",
            )
        numbers = struct.unpack(f"<{len(self.centroids) // _FLOAT_BYTES}f", self.centroids)
        if not all(map(math.isfinite, numbers)):
            raise ProfileError(f"descriptor {self.name!r}: a centroid is not finite")

    @property
    def name(self) -> str:
        """Name of the tensor that it makes."""
        return virtual(self.tensor, self.kind)

    @property
    def count(self) -> int:
        """Number of centroids."""
        return len(self.centroids) // (self.size * _FLOAT_BYTES)

    @property
    def columns(self) -> tuple[str, ...]:
        """Norm, the nearest centroid's distance and index, and the distance to each of them."""
        return ("norm", "distance", "nearest", *(f"distance[{i}]" for i in range(self.count)))


class Image(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="image", gc=False):
    """What a photographer would say of a picture before looking at what it shows.

    Args:
        tensor: input or output that holds the pictures.
        shape: of one picture as the tensor holds it: (C, H, W) or (H, W, C) with 1, 3 or 4
            channels, the fourth of which is not looked at. Tensors of flat rows are read so, too.
        layout: "NCHW" or "NHWC".
        range: the numbers of black and of white.
        colours: the order of the channels.
    """

    kind: ClassVar[str] = "image"

    tensor: str
    shape: tuple[int, int, int]
    layout: Order
    range: tuple[float, float]
    colours: Colours = "RGB"

    def __post_init__(self) -> None:
        """Refuse what is no picture."""
        _require_size(self.name, math.prod(self.shape) if min(self.shape) > 0 else 0)
        if self.channels not in {_GREY, _COLOUR, _COLOUR_WITH_ALPHA}:
            raise ProfileError(
                f"descriptor {self.name!r}: a picture of shape {self.shape} in {self.layout} has "
                f"{self.channels} channels; 1, 3 or 4 are needed",
                hint="check the order of the dimensions (layout)",
            )
        low, high = map(float, self.range)
        # 0 and 0.0 would make two identities of one descriptor.
        msgspec.structs.force_setattr(self, "range", (low, high))
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ProfileError(
                f"descriptor {self.name!r}: a range goes from the number of black to that of "
                f"white, got {low!r} and {high!r}"
            )

    @property
    def name(self) -> str:
        """Name of the tensor that it makes."""
        return virtual(self.tensor, self.kind)

    @property
    def channels(self) -> int:
        """Channels of a picture."""
        return self.shape[0] if self.layout == "NCHW" else self.shape[2]

    @property
    def coloured(self) -> bool:
        """Whether pictures have colours."""
        return self.channels > _GREY

    @property
    def columns(self) -> tuple[str, ...]:
        """Figures of light, and of colours where there are some."""
        light = ("brightness", "contrast", "sharpness", "dark", "burnt_out")
        return (*light, "saturation", "warmth", "tint") if self.coloured else light


class Text(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="text", gc=False):
    """How texts look, in whatever language.

    Args:
        tensor: input or output that holds them: (n,) or (n, 1) strings.
    """

    kind: ClassVar[str] = "text"

    tensor: str

    @property
    def name(self) -> str:
        """Name of the tensor that it makes."""
        return virtual(self.tensor, self.kind)

    @property
    def columns(self) -> tuple[str, ...]:
        """Lengths, and shares of characters."""
        return (
            "characters", "words", "word_length", "letters", "digits", "punctuation", "whitespace",
            "upper_case", "non_ascii", "beyond_latin", "repeated",
        )  # fmt: skip


Descriptor = Union[Embedding, Image, Text]  # noqa: UP007 — evaluated by Python 3.10 at import


def virtual(tensor: str, kind: str) -> str:
    """Return the name of the tensor that a descriptor of ``tensor`` makes."""
    return f"{tensor}#{kind}"


def require_unique(descriptors: tuple[Descriptor, ...]) -> None:
    """Require that descriptors are few and differ. Raises `ProfileError`."""
    names = [descriptor.name for descriptor in descriptors]
    if len(names) > MAX_DESCRIPTORS:
        raise ProfileError(f"{len(names)} descriptors; {MAX_DESCRIPTORS} are allowed")
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ProfileError(f"descriptors are declared twice: {', '.join(twice)}")


def _require_size(name: str, size: int) -> None:
    if not 1 <= size <= MAX_SIZE:
        raise ProfileError(
            f"descriptor {name!r}: a row must have 1 to {MAX_SIZE} numbers, it has {size}"
        )
