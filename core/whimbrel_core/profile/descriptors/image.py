"""Describe pictures by light and colour: figures that a dirty lens, dusk or a new camera move.

All are of the range from black (0) to white (1); luma is .299 R + .587 G + .114 B (ITU-R BT.601).

- brightness, contrast: mean and standard deviation of luma;
- sharpness: root mean square of the luma's Laplacian; blur and fog lower it, noise raises it;
- dark, burnt_out: shares of pixels with luma ≤ .05, and ≥ .98;
- saturation: mean distance of the largest from the smallest channel;
- warmth: mean red less mean blue; tint: mean green less the mean of the other two.

Pictures are read in bands of rows that stay in the cache: a batch is never copied whole. Figures
are rounded to 2^-16, beyond the noise of float32 sums, whose order depends on the CPU.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from whimbrel_core.errors import ProfileError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from whimbrel_core.profile.descriptors.declared import Image

    Floats32 = NDArray[np.float32]

DARK, BURNT_OUT = np.float32(0.05), np.float32(0.98)
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_COLOURS = 3
_BAND = 1 << 15  # pixels at a time
_STEPS = 65536.0
_NEIGHBOURS = 3  # rows and columns that a Laplacian needs
# Sums kept per picture; `Image.columns` are means of the first six, roots of two of them, and
# differences of the rest.
_LIGHT, _SPREAD, _EDGES, _DARK, _BURNT, _CHROMA, _RED, _GREEN, _BLUE = range(9)


class Describer:
    """Makes the columns of one `Image`. Its scratch memory makes it one thread's."""

    def __init__(self, declared: Image) -> None:
        self._declared = declared
        low, high = declared.range
        self._scale = np.float32(1 / (high - low))
        self._offset = np.float32(-low / (high - low))
        self._channels = _COLOURS if declared.coloured else 1
        axis = 0 if declared.layout == "NCHW" else 2
        self._height, self._width = (n for i, n in enumerate(declared.shape) if i != axis)
        self._order = slice(0, self._channels)
        if declared.coloured and declared.colours == "BGR":
            self._order = slice(2, None, -1)
        self._divisors = np.full(_BLUE + 1, self._height * self._width, np.float64)
        inner = (self._height - 2) * (self._width - 2)
        small = min(self._height, self._width) < _NEIGHBOURS
        self._divisors[_EDGES] = np.nan if small else inner
        # Channels, luma where it is none of them, and one for results; kept because fresh pages
        # cost as much as a small picture.
        self._scratch = np.empty((5 if declared.coloured else 2, 0), np.float32)

    def __call__(self, tensor: NDArray[Any]) -> Floats32:
        """Return (n, 5) float32 of grey pictures or (n, 8) of coloured ones.

        Args:
            tensor: (n, C, H, W), (n, H, W, C) or (n, C·H·W). A picture with a number that is not
                finite is NaN; without three rows and columns its sharpness is.

        Raises:
            ProfileError: pictures of another shape, or no numbers.
        """
        # (C, n, H, W), red first
        pictures = self._planar(tensor).transpose(1, 0, 2, 3)[self._order]
        n, height, width = pictures.shape[1:]
        sums = np.zeros((n, _BLUE + 1))
        together = max(1, min(n, _BAND // (height * width)))
        rows = min(height, max(1, _BAND // width))
        size = together * min(rows + 2, height) * width
        if size > self._scratch.shape[1]:
            self._scratch = np.empty((len(self._scratch), size), np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            for at in range(0, n, together):
                some, into = pictures[:, at : at + together], sums[at : at + together]
                for top in range(0, height, rows):
                    self._add(some, top, min(top + rows, height), into)
            return self._figures(sums)

    def _planar(self, tensor: NDArray[Any]) -> NDArray[Any]:
        """Return a view (n, C, H, W) of the tensor."""
        declared = self._declared
        if tensor.dtype.kind not in "fiub" or not tensor.ndim:
            raise ProfileError(
                f"tensor {declared.tensor!r} is described as an image and holds something else "
                f"({tensor.dtype}, shape {tensor.shape})",
                code="profile.dtype",
            )
        if tensor.shape[1:] != declared.shape:
            if tensor.shape[1:] != (prod(declared.shape),):
                raise ProfileError(
                    f"tensor {declared.tensor!r} has rows of shape {tensor.shape[1:]}; its pictures "
                    f"have {declared.shape} ({declared.layout})",
                    code="profile.shape",
                )
            tensor = tensor.reshape(len(tensor), *declared.shape)
        return tensor if declared.layout == "NCHW" else tensor.transpose(0, 3, 1, 2)

    def _add(self, pictures: NDArray[Any], top: int, bottom: int, sums: NDArray[Any]) -> None:
        """Add rows ``top`` to ``bottom`` of ``pictures`` (C, g, H, W) to ``sums`` (g, 9).

        All of a band is laid flat, (g, pixels): several pictures only come whole.
        """
        # One row more on either side: the Laplacian looks at neighbours.
        above, below = max(top - 1, 0), min(bottom + 1, self._height)
        g, width, channels = pictures.shape[1], self._width, self._channels
        size = g * (below - above) * width
        flat = self._scratch[:, :size]
        planes = flat[:channels].reshape(channels, g, below - above, width)
        np.multiply(pictures[:, :, above:below], self._scale, out=planes, casting="unsafe")
        if self._offset:
            planes += self._offset
        own = slice((top - above) * width, (bottom - above) * width)
        luma, spare = flat[0].reshape(g, -1), flat[-1].reshape(g, -1)
        if channels == _COLOURS:
            luma = flat[_COLOURS].reshape(g, -1)
            np.dot(_LUMA, flat[:_COLOURS], out=flat[_COLOURS])
            colours = flat[:_COLOURS].reshape(_COLOURS, g, -1)[:, :, own]
            _add_colours(colours, spare[:, own], sums)
        self._add_edges(luma, spare, sums)
        _add_light(luma[:, own], spare[:, own], sums, top * width)

    def _add_edges(self, luma: Floats32, spare: Floats32, sums: NDArray[Any]) -> None:
        """Add the squares of the Laplacian of ``luma`` (g, pixels)."""
        width = self._width
        inner = luma.shape[1] - 2 * width
        if inner <= 0 or width < _NEIGHBOURS:
            return
        found = spare[:, :inner]
        np.multiply(luma[:, width:-width], np.float32(-4), out=found)
        # Laid flat, the first and last columns see each other; they are left out below.
        for start in (0, width - 1, width + 1, 2 * width):
            found += luma[:, start : start + inner]
        lines = found.reshape(len(luma), -1, width)[:, :, 1:-1]
        sums[:, _EDGES] += np.vecdot(lines, lines).sum(axis=1)

    def _figures(self, sums: NDArray[Any]) -> Floats32:
        made = sums / self._divisors
        made[:, _SPREAD : _EDGES + 1] = np.sqrt(made[:, _SPREAD : _EDGES + 1])
        red, blue = made[:, _RED].copy(), made[:, _BLUE]
        made[:, _RED] -= blue  # warmth
        made[:, _GREEN] -= (red + blue) / 2  # tint
        made = made[:, : len(self._declared.columns)]
        np.rint(made * _STEPS, out=made)
        made /= _STEPS
        made += 0.0  # a rounded −0.0 is 0
        if not np.isfinite(sums).all():
            made[~np.isfinite(sums).all(axis=1)] = np.nan
        return made.astype(np.float32)


def _add_colours(channels: Floats32, spare: Floats32, sums: NDArray[Any]) -> None:
    """Add sums of ``channels`` (3, g, pixels) and of their largest distance."""
    sums[:, _RED:] += channels.sum(axis=2).T
    np.maximum.reduce(channels, axis=0, out=spare)
    sums[:, _CHROMA] += spare.sum(axis=1)
    np.minimum.reduce(channels, axis=0, out=spare)
    sums[:, _CHROMA] -= spare.sum(axis=1)


def _add_light(luma: Floats32, spare: Floats32, sums: NDArray[Any], before: int) -> None:
    """Add moments and shares of ``luma`` (g, pixels) to those of ``before`` pixels."""
    pixels = luma.shape[1]
    for picture, own in zip(luma, sums, strict=True):
        own[_DARK] += np.count_nonzero(picture <= DARK)
        own[_BURNT] += np.count_nonzero(picture >= BURNT_OUT)
    total = luma.sum(axis=1).astype(np.float64)
    # About the band's own mean, and joined as Chan, Golub and LeVeque do: the squares of numbers
    # about a distant mean would cancel.
    mean = total / pixels
    np.subtract(luma, mean.astype(np.float32)[:, np.newaxis], out=spare)
    sums[:, _SPREAD] += np.vecdot(spare, spare)
    if before:
        apart = mean - sums[:, _LIGHT] / before
        sums[:, _SPREAD] += apart**2 * (before * pixels / (before + pixels))
    sums[:, _LIGHT] += total
