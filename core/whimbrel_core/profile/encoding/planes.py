"""The counts and sums of a window's features as bytes, in an order that deflates well.

Numbers become byte planes (all lowest bytes, then all next ones, …). Deflate gives each byte its
own number of bits, by how often it comes *in one block*, so what is alike stands together:

- all counts but the cells, the high planes of the cells, and those planes of sums and extremes that
  hold exponents and trailing zeros: nearly all of it zero;
- the low plane of the cells, from the outermost cells of all features to the middle ones: zeros,
  then the few rows of the tails, then the many that quantile cells have;
- the planes of sums and extremes that are as good as random.

`Body.cuts` is where a writer may begin another block; readers do not care.
"""

from __future__ import annotations

from functools import lru_cache
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from whimbrel_core.profile.encoding.packing import Reader, Writer

# Of big-endian numbers, the planes that are nearly the same in all features: sign and exponent, and
# what rounding leaves empty. Totals, squares (about rows · scale², so with a narrower range), and
# twice the float32 extremes.
_SMOOTH = ((0, 3, 4, 5, 6, 7), (0, 1, 4, 5, 6, 7), (0,), (0,))
_WIDTHS = (8, 8, 4, 4)
# How far from a feature's nearest end the tail of a numeric feature begins and ends: five to eight
# edges are beyond the reference, and a dozen cut its last 1.25 %.
_TAIL = (8, 13)


class Body(NamedTuple):
    """The features of one window, packed.

    Args:
        others: width and planes of nulls, positive and negative infinities and repeats (4 F).
        cells: width and planes of all cells, in the order of `wire_order`.
        reals: totals, squares (float64), smallest and largest values (float32; NaN for none), each
            F big-endian numbers.
    """

    others: tuple[int, bytes]
    cells: tuple[int, bytes]
    reals: tuple[bytes, bytes, bytes, bytes]


def write_body(out: Writer, body: Body, sizes: bytes) -> tuple[int, ...]:
    """Append ``body`` and return the places where another block may begin.

    Args:
        out: where to.
        body: of a window whose features have ``sizes`` cells.
        sizes: a byte per feature.
    """
    for row in (body.others, (body.cells[0], b"")):
        out.raw(bytes([row[0]]))
        out.raw(row[1])
    planes = body.cells[1]
    count = len(planes) // body.cells[0]
    out.raw(planes[count:])
    parts = list(zip(body.reals, _WIDTHS, _SMOOTH, strict=True))
    for packed, width, smooth in parts:
        for plane in smooth:
            out.raw(packed[plane::width])
    start = len(out.buffer)
    out.raw(planes[:count])
    end = len(out.buffer)
    for packed, width, smooth in parts:
        for plane in range(width):
            if plane not in smooth:
                out.raw(packed[plane::width])
    return (*(start + place for place in _tail(sizes)), end)


def read_body(source: Reader, sizes: bytes) -> Body:
    """Take what `write_body` appended. Raises `ProfileError`."""
    features, count = len(sizes), sum(sizes)
    others = source.planes(4 * features)
    width = source.width()
    high = source.raw((width - 1) * count)
    reals = [bytearray(features * width) for width in _WIDTHS]
    parts = list(zip(reals, _WIDTHS, _SMOOTH, strict=True))
    for packed, size, smooth in parts:
        for plane in smooth:
            packed[plane::size] = source.raw(features)
    low = source.raw(count)
    for packed, size, smooth in parts:
        for plane in range(size):
            if plane not in smooth:
                packed[plane::size] = source.raw(features)
    totals, squares, lows, highs = map(bytes, reals)
    return Body(others, (width, low + high), (totals, squares, lows, highs))


def wire_order(sizes: bytes) -> list[int]:
    """Return where the cells that travel first, second, … stand among all cells of all features.

    By their distance from the nearest end of their feature, and then feature by feature.
    """
    distances = [min(cell, size - 1 - cell) for size in sizes for cell in range(size)]
    return sorted(range(len(distances)), key=distances.__getitem__)


def own_order(sizes: bytes) -> list[int]:
    """Return where each cell stands in `wire_order`."""
    found = [0] * sum(sizes)
    for place, cell in enumerate(wire_order(sizes)):
        found[cell] = place
    return found


# Few are kept: sizes are foreign, and the orders of 256 features take a megabyte.
@lru_cache(maxsize=8)
def to_wire(sizes: bytes) -> Callable[[Sequence[int]], tuple[int, ...]]:
    """Return what puts all cells of all features in `wire_order`."""
    return _taker(wire_order(sizes))


@lru_cache(maxsize=8)
def from_wire(sizes: bytes) -> Callable[[Sequence[int]], tuple[int, ...]]:
    """Return what puts them back."""
    return _taker(own_order(sizes))


def _taker(order: list[int]) -> Callable[[Sequence[int]], tuple[int, ...]]:
    return itemgetter(*order) if len(order) > 1 else tuple


@lru_cache(maxsize=64)
def _tail(sizes: bytes) -> tuple[int, ...]:
    """Return how many cells are nearer to an end of their feature than each limit of `_TAIL`."""
    return tuple(sum(min(size, 2 * limit) for size in sizes) for limit in _TAIL)
