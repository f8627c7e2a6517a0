"""The baseline of a bundle: a layout, the reference counts, and how predictions came true.

``baseline.bin`` inside a bundle is `Baseline.encode`: magic, then msgpack, not compressed (that is
the transport's work, and deltas see plain bytes); equal baselines give equal bytes. The
signature on the bundle vouches for the content; `decode` still bounds and checks it, because it
is read on machines that must not fall over.
"""

from __future__ import annotations

import math

import msgspec

from whimbrel_core.errors import ProfileError
from whimbrel_core.profile.encoding import document
from whimbrel_core.profile.encoding.packing import MAX_COUNT
from whimbrel_core.profile.layout import Layout
from whimbrel_core.profile.quality.errormodel import ErrorModel
from whimbrel_core.profile.window import Window, require_fit

MAGIC = b"WBASE\x00\x00\x01"
MAX_ENCODED_BYTES = 4 * 1024 * 1024


class FeatureStats(msgspec.Struct, frozen=True, kw_only=True):
    """The reference of one feature in numbers.

    Args:
        n: reference rows.
        null_rate: nulls and infinities per row, 0 to 1.
        mean: of the finite values; None for categories or without any.
        sd: standard deviation (population) of the finite values, likewise.
        min: smallest finite value, likewise.
        max: largest finite value, likewise.
        cell_means: mean per cell: of the reference values in it, or where none fell a point
            inside the cell; empty for categories.
    """

    n: int
    null_rate: float
    mean: float | None = None
    sd: float | None = None
    min: float | None = None
    max: float | None = None
    cell_means: tuple[float, ...] = ()


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """How scores came true on labelled reference rows: counts per score bin.

    The *claim* of a score is "this is the positive class" for a layout with a positive class,
    else "the predicted class is right".

    Args:
        false: rows per score bin whose claim was false.
        true: rows per score bin whose claim was true.
        right: rows per score bin whose predicted class was the true one (equal to ``true`` when
            the claim is about the predicted class).
        means: mean score per bin, 0 to 1: how often claims of a calibrated model come true there.
        binary: whether the claim is about a positive class.
    """

    false: tuple[int, ...]
    true: tuple[int, ...]
    right: tuple[int, ...]
    means: tuple[float, ...]
    binary: bool


class Baseline(msgspec.Struct, frozen=True, kw_only=True):
    """What a model looked like when it was packed.

    Args:
        layout: features and cells.
        window: counts of the reference rows (start and end 0).
        stats: per feature, in the layout's order.
        calibration: None when no labelled scores were given.
        errors: of a regression; None when no labelled predictions were given.
    """

    layout: Layout
    window: Window
    stats: tuple[FeatureStats, ...]
    calibration: Calibration | None = None
    errors: ErrorModel | None = None

    @property
    def profile_id(self) -> str:
        """Identity of the layout."""
        return self.layout.profile_id

    def __repr__(self) -> str:
        return (
            f"<Baseline {self.profile_id[:12]}…: {self.window.rows:,} rows, "
            f"{len(self.layout.features)} features>"
        )

    def _repr_html_(self) -> str:
        from whimbrel_core.pages import notebook

        return notebook.baseline(self)

    def encode(self) -> bytes:
        """Return the baseline as the bytes of ``baseline.bin``; equal baselines, equal bytes."""
        return MAGIC + msgspec.msgpack.encode(self)

    @staticmethod
    def decode(data: bytes) -> Baseline:
        """Return the baseline in ``data``.

        Raises:
            ProfileError: no baseline, another format, beyond a limit, or parts that do not fit.
        """
        baseline = document.read(
            data,
            Baseline,
            magic=MAGIC,
            limit=MAX_ENCODED_BYTES,
            what="baseline",
            hint="update Whimbrel on this machine, or pack the model again with this version",
        )
        baseline.check()
        return baseline

    def check(self) -> None:
        """Require that the parts fit each other. Raises `ProfileError`."""
        require_fit(self.window, self.layout)
        if len(self.stats) != len(self.layout.features):
            raise ProfileError(
                f"a baseline has {len(self.layout.features)} features and {len(self.stats)} "
                "descriptions of them"
            )
        for feature, counts, stats in zip(
            self.layout.features, self.window.features, self.stats, strict=True
        ):
            if min(counts.cells) < 0 or max(counts.cells) > MAX_COUNT or not counts.rows:
                raise ProfileError(
                    f"feature {feature.name!r}: the reference counts are out of range"
                )
            if counts.rows != self.window.rows:
                raise ProfileError(
                    f"feature {feature.name!r} counts {counts.rows} of {self.window.rows} rows"
                )
            means = stats.cell_means
            if len(means) != (feature.cells if feature.ordered else 0):
                raise ProfileError(f"feature {feature.name!r}: a mean is needed per cell")
            moments = (stats.mean, stats.sd, stats.min, stats.max)
            sums = (counts.total, counts.squares, counts.min, counts.max)
            known = [number for number in (*means, *moments, *sums) if number is not None]
            if not all(map(math.isfinite, known)) or not 0 <= stats.null_rate <= 1:
                raise ProfileError(f"feature {feature.name!r}: a reference number is out of range")
        if self.calibration is not None:
            self._check_calibration(self.calibration)
        if self.errors is not None:
            self.errors.check(self.layout)

    def _check_calibration(self, calibration: Calibration) -> None:
        bins = self.layout.score_bins
        rows = (calibration.false, calibration.true, calibration.right)
        if any(len(row) != bins or min(row) < 0 or max(row) > MAX_COUNT for row in rows):
            raise ProfileError(f"a calibration has {bins} counts in each of its rows")
        means = calibration.means
        if len(means) != bins or not all(0 <= mean <= 1 for mean in means):
            raise ProfileError(f"a calibration has {bins} mean scores from 0 to 1")
        if self.layout.score_tensor is None or calibration.binary != self.layout.binary:
            raise ProfileError("a calibration must belong to the scores of its layout")
