"""Descriptors: inputs that are no columns of numbers, as a few numbers that say how they look.

Nobody profiles a picture by its pixels. A *descriptor* of a tensor makes another one, called
``<tensor>#<kind>``, of shape (n, k): brightness, contrast, … of a picture; norm and distances to
the reference data's centroids of an embedding; length and shares of characters of a text. Its
columns are ordinary features of the layout, so that cells, merging, drift and reports know nothing
of descriptors. What was described never leaves the device.

The same code describes reference data when a model is packed and requests on a device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from whimbrel_core.profile.descriptors.declared import (
    Descriptor,
    Embedding,
    Image,
    Text,
    require_unique,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    Describe = Callable[[NDArray[Any]], NDArray[np.float32]]

__all__ = ["Descriptor", "Embedding", "Image", "Text", "describer", "require_unique"]


def describer(descriptor: Descriptor) -> Describe:
    """Return what makes the (n, k) float32 columns of a descriptor out of its tensor, (n, …).

    What cannot be described (NaN or infinite numbers, a missing text) is NaN in all columns. What
    does not fit the descriptor at all raises `ProfileError`.
    """
    # numpy comes with these, which a device's control process must do without.
    from whimbrel_core.profile.descriptors import embedding, image, text

    if isinstance(descriptor, Embedding):
        return embedding.Describer(descriptor)
    if isinstance(descriptor, Image):
        return image.Describer(descriptor)
    return text.Describer(descriptor)
