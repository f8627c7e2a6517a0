"""The layout of a profile: which features, cut into which cells.

A layout is fixed when a bundle is packed and never changes: counts over equal cells are merged by
addition, without error. Two windows may be merged only when their layouts have the same
`Layout.profile_id`.

Scores are sorted into right-closed bins, as numbers are into cells, between ``score_edges``; a
regression, which has none, counts the leaves of its ``error_tree`` in their place.
"""

from __future__ import annotations

from bisect import bisect_left
from functools import cached_property
from typing import Literal

import msgspec

from whimbrel_core import identity
from whimbrel_core.canonical import canonical_json
from whimbrel_core.errors import ProfileError
from whimbrel_core.profile.descriptors.declared import Descriptor, require_unique
from whimbrel_core.profile.errortree import MAX_LEAVES, ErrorTree
from whimbrel_core.profile.feature import (
    MAX_COLUMN,
    MAX_WORD_CHARS,
    Feature,
    is_float32,
    require_ascending,
)
from whimbrel_core.profile.slices import MAX_SLICE_CLASSES, Slice, require_slices

Task = Literal["classification", "regression"]

FORMAT = 1
MAX_FEATURES = 256  # of 100,000 rows their counts still fit an MQTT message of 32 KB
MAX_CLASSES = 1024
MAX_CONFUSION_CLASSES = 32  # beyond it, a confusion matrix outweighs the rest of a window
MAX_SCORE_BINS = 20
MAX_SCORE_CELLS = max(MAX_SCORE_BINS, MAX_LEAVES)


class Layout(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """The features and classes of one model: everything that decides where a value is counted.

    Args:
        task: what the model does.
        features: inputs and outputs, in the order in which windows hold their counts.
        classes: names of the classes by index (classification), else empty.
        positive: index of the class whose probability is *the* score, for a two-class model;
            None: the score is the probability of the predicted class (its confidence).
        score_tensor: output that holds the probabilities: (n,) or (n, 1) of the positive class,
            or (n, classes). None: no scores are profiled.
        score_edges: ascending interior edges of the score bins, float32 numbers, at most 19; none:
            all scores are in one bin. Needs a ``score_tensor``.
        descriptors: of tensors that are no columns of numbers; each makes a tensor that features
            may name.
        slices: segments of the rows with a small profile of their own, at most 16.
        error_tree: of a regression, whose leaves are counted; None: no error is expected.
        format: version of this structure.
    """

    task: Task
    features: tuple[Feature, ...]
    classes: tuple[str, ...] = ()
    positive: int | None = None
    score_tensor: str | None = None
    score_edges: tuple[float, ...] = ()
    descriptors: tuple[Descriptor, ...] = ()
    slices: tuple[Slice, ...] = ()
    error_tree: ErrorTree | None = None
    format: int = FORMAT

    def __post_init__(self) -> None:
        """Refuse a layout that counts could not be kept in."""
        if self.format != FORMAT:
            raise ProfileError(
                f"this profile layout has format {self.format}; this Whimbrel reads format {FORMAT}",
                hint="update Whimbrel on this machine, or pack the model again with this version",
                code="profile.version",
            )
        if not 1 <= len(self.features) <= MAX_FEATURES:
            raise ProfileError(
                f"a profile has 1 to {MAX_FEATURES} features, this one has {len(self.features)}",
                hint="choose the columns to profile when packing",
            )
        names = [feature.name for feature in self.features]
        if len(set(names)) != len(names):
            twice = sorted({name for name in names if names.count(name) > 1})
            raise ProfileError(f"feature names must be unique; used twice: {', '.join(twice)}")
        require_ascending("the score", "edges", self.score_edges, MAX_SCORE_BINS - 1)
        if self.score_edges and self.score_tensor is None:
            raise ProfileError("edges of score bins need a score_tensor; there is none")
        require_unique(self.descriptors)
        made = {descriptor.name: len(descriptor.columns) for descriptor in self.descriptors}
        for feature in self.features:
            if feature.column >= made.get(feature.tensor, MAX_COLUMN):
                raise ProfileError(
                    f"feature {feature.name!r}: {feature.tensor!r} has {made[feature.tensor]} "
                    f"columns, none of them is {feature.column}"
                )
        if self.error_tree is not None:
            self._check_tree(self.error_tree)
        if self.slices:
            require_slices(self.slices, self.features, self.score_cells)
        self._check_classes()

    def _check_tree(self, tree: ErrorTree) -> None:
        if self.task != "regression":
            raise ProfileError("an error tree belongs to a regression; this is a classification")
        for split in tree.nodes:
            if split is None:
                continue
            if not 0 <= split.feature < len(self.features):
                raise ProfileError(f"an error tree asks for feature {split.feature}; there is none")
            if not is_float32(split.threshold):
                raise ProfileError(
                    f"an error tree's thresholds must be finite float32 numbers, got "
                    f"{split.threshold!r}"
                )

    def _check_classes(self) -> None:
        classes = self.classes
        if self.task == "regression":
            if classes or self.positive is not None or self.score_tensor is not None:
                raise ProfileError("a regression has no classes, positive class or score tensor")
            return
        if len(classes) not in range(2, MAX_CLASSES + 1) or len(set(classes)) != len(classes):
            raise ProfileError(
                f"a classifier has 2 to {MAX_CLASSES} distinct classes, got {len(classes)}"
            )
        if any(len(name) > MAX_WORD_CHARS for name in classes):
            raise ProfileError(f"a class name is longer than {MAX_WORD_CHARS} characters")
        if self.positive is not None and (len(classes) > 2 or self.positive not in (0, 1)):  # noqa: PLR2004
            raise ProfileError(
                f"a positive class (0 or 1) belongs to a two-class model; got {self.positive} "
                f"of {len(classes)} classes",
                hint="leave it out: the score is then the probability of the predicted class",
            )

    @cached_property
    def profile_id(self) -> str:
        """SHA-256 of the canonical layout, 64 hexadecimal digits."""
        return str(identity.sha256(canonical_json(self)))

    @cached_property
    def cells(self) -> int:
        """Number of cells of all features together."""
        return sum(feature.cells for feature in self.features)

    @cached_property
    def sizes(self) -> bytes:
        """Number of cells of each feature, a byte each."""
        return bytes(feature.cells for feature in self.features)

    @cached_property
    def coarse_sizes(self) -> bytes:
        """Number of coarse cells of each feature, a byte each; empty without slices."""
        return bytes(len(one.coarse) + 1 for one in self.features) if self.slices else b""

    @property
    def binary(self) -> bool:
        """Whether the score is the probability of a positive class."""
        return self.positive is not None

    @property
    def confusion_size(self) -> int:
        """Rows (and columns) of the confusion matrix; 0 when there are too many classes."""
        return len(self.classes) if len(self.classes) <= MAX_CONFUSION_CLASSES else 0

    @property
    def slice_confusion_size(self) -> int:
        """The same of a slice."""
        return len(self.classes) if len(self.classes) <= MAX_SLICE_CLASSES else 0

    @property
    def score_bins(self) -> int:
        """Number of score bins, 1 to 20."""
        return len(self.score_edges) + 1

    @property
    def score_cells(self) -> int:
        """Number of counts that quality is expected from: score bins or leaves; 0: it is not."""
        if self.error_tree is not None:
            return self.error_tree.leaves
        return self.score_bins if self.score_tensor is not None else 0

    def score_bin(self, score: float) -> int | None:
        """Return the bin of ``score``, a float32 number; None for NaN.

        Bins are (−inf, e₀], (e₀, e₁], …, (eₖ, inf): an edge belongs to the bin below it.
        """
        if score != score:  # noqa: PLR0124 — NaN, without an import on the serving path
            return None
        return bisect_left(self.score_edges, score)

    def score_of(self, probabilities: tuple[float, ...] | list[float]) -> float:
        """Return the score of one row's output: ``(p_positive,)`` or one number per class."""
        if len(probabilities) == 1:
            return probabilities[0]
        return probabilities[self.positive] if self.positive is not None else max(probabilities)
