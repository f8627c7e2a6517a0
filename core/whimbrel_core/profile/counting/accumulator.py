"""Count rows on the device, cheaply, in a buffer that survives kill -9.

Everything lives in one buffer, which the agent maps from a file: the pages outlive the process
(`whimbrel_core.profile.counting.memory` says what is where).

A row is written into the ring first and then counted in the word. A flush adds the ring's rows
to the active bank's numbers *into the other bank*, and then stores one word that both switches
the bank and empties the ring. Killed before that store, the old bank and the ring's rows stand;
killed after it, the new bank does: no row is lost or counted twice.

A power cut is different: pages reach the disk in any order. The checksum of a bank tells a torn
one on `Accumulator.attach`; at most the open window is lost then, and never a wrong one used.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np

from whimbrel_core.errors import ProfileError
from whimbrel_core.profile.baseline import Baseline
from whimbrel_core.profile.counting.kernel import Kernel, fastest_kernel
from whimbrel_core.profile.counting.memory import FAILED, MISTYPED, REJECTED, Memory, Plan
from whimbrel_core.profile.counts import LATENCY_CELLS, FeatureCounts, OpsCounts, slice_of
from whimbrel_core.profile.window import Window

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from whimbrel_core.profile.counting.memory import Buffer
    from whimbrel_core.profile.counting.tables import Tables
    from whimbrel_core.profile.counts import SliceCounts
    from whimbrel_core.profile.layout import Layout


class Accumulator:
    """Counts one window of one layout. Not thread-safe: one owner at a time.

    Args:
        layout: of the profile, or the baseline that holds it.
        buffer: writable memory of `Accumulator.size` bytes, e.g. a mapped file; it is initialised.
            None: private memory.
        kernel: "sorted" or "plain"; None: the faster one on this CPU.
    """

    def __init__(
        self,
        layout: Layout | Baseline,
        buffer: Buffer | None = None,
        *,
        kernel: Kernel | None = None,
    ) -> None:
        self._open(layout, buffer, kernel)
        self._memory.initialise()

    @staticmethod
    def size(layout: Layout | Baseline) -> int:
        """Return the number of bytes that a buffer for ``layout`` must have."""
        return Plan(_layout(layout)).size

    @classmethod
    def attach(
        cls, layout: Layout | Baseline, buffer: Buffer, *, kernel: Kernel | None = None
    ) -> Accumulator:
        """Re-open a buffer after its owner died: every row whose `update` returned is there.

        Raises:
            ProfileError: another layout, another size, never initialised, or torn by a power
                cut. The buffer is unchanged; start a new one.
        """
        self = cls.__new__(cls)
        self._open(layout, buffer, kernel)
        self._memory.require()
        self._state = self._word[0]
        return self

    def _open(
        self, layout: Layout | Baseline, buffer: Buffer | None, kernel: Kernel | None
    ) -> None:
        self.layout = _layout(layout)
        self._plan = plan = Plan(self.layout)
        self._cells = plan.cells
        self._kernel: Kernel = kernel if kernel is not None else fastest_kernel()
        self._memory = memory = Memory(plan, buffer)
        # What every row needs, at hand.
        self._word, self._live = memory.word, memory.live
        self._ring, self._banks = memory.ring, memory.banks
        self._ring_bytes, self._ring_numbers = memory.ring_bytes, memory.ring_numbers
        self._width = self._cells.width
        self._pack_row = plan.pack_row
        self._row_bytes = plan.row_bytes
        self._state = 0  # the word's value
        self._full = 2 * plan.ring_rows

    @property
    def rows(self) -> int:
        """Rows counted since the buffer was initialised."""
        return int(self._banks[self._state & 1].rows[0]) + (self._state >> 1)

    @property
    def width(self) -> int:
        """Numbers in one row of the ring: the features, and the score where none is it."""
        return self._cells.width

    def update(self, tensors: Mapping[str, NDArray[Any]]) -> int:
        """Count a batch: inputs and outputs of the model by tensor name; return its rows.

        Args:
            tensors: arrays (n,), (n, 1) or (n, …) of numbers; object, str or bytes arrays for
                strings. A feature whose tensor is absent counts as null.

        Raises:
            ProfileError: no tensor of the layout, numbers of rows that differ, a column that the
                tensor does not have, or a type that cannot be counted. Nothing of the batch is
                counted then.
        """
        return self._append(*self._plan.tensors.blocks(tensors))

    def update_rows(self, rows: NDArray[np.float32]) -> int:
        """Count a batch already in ring order: (n, `width`), each row as for `update_row`."""
        return self._append([rows], len(rows))

    def _append(self, blocks: list[NDArray[Any]], rows: int) -> int:
        capacity = self._plan.ring_rows
        start = self._state >> 1
        if rows < capacity - start:
            self._write(blocks, start, rows)
            return rows
        done = 0
        while done < rows:
            start = self._state >> 1
            step = min(rows - done, capacity - start)
            self._write([block[done : done + step] for block in blocks], start, step)
            done += step
        return rows

    def _write(self, blocks: list[NDArray[Any]], start: int, rows: int) -> None:
        # A single block is copied without concatenate's set-up.
        target = self._ring[start : start + rows]
        if len(blocks) == 1:
            target[:] = blocks[0]
        else:
            np.concatenate(blocks, axis=1, out=target, casting="unsafe")
        self._state = state = self._state + 2 * rows
        if state >= self._full:
            # Counted straight from the ring: the word still tells of the rows before these, and
            # the flush's store commits both at once.
            self.flush()
        else:
            self._word[0] = state

    def update_row(self, row: NDArray[np.float32]) -> None:
        """Count one row in ring order: (`width`,) float32, features as in the layout.

        Categories are indices into the vocabulary (its length for any other word), null is NaN;
        the last number is the score when `width` is one more than the features.
        """
        state = self._state
        at = (state >> 1) * self._width
        try:
            # Half of what a line of an array costs, for a row that is float32 already.
            self._ring_numbers[at : at + self._width] = row  # type: ignore[call-overload]
        except ValueError:
            self._ring[state >> 1] = row
        self._state = state = state + 2
        if state < self._full:
            self._word[0] = state
        else:
            self.flush()

    def update_values(self, values: Sequence[float], latency_us: float | None = None) -> None:
        """Count one row of Python numbers, as for `update_row`, and the request that it came in.

        The cheapest way to count a request of one row: no array is made.

        Args:
            values: `width` numbers.
            latency_us: of the request; None counts no request.

        Raises:
            ProfileError: not `width` numbers that float32 can hold. Nothing is counted then.
        """
        state = self._state
        try:
            self._pack_row(self._ring_bytes, (state >> 1) * self._row_bytes, *values)
        except (struct.error, OverflowError) as error:
            raise ProfileError(
                f"not a row of {self.width} numbers: {error}", code="profile.row"
            ) from error
        self._state = state = state + 2
        if state < self._full:
            self._word[0] = state
        else:
            self.flush()
        if latency_us is not None:
            cell = int(latency_us).bit_length()
            self._live[cell if cell < LATENCY_CELLS else LATENCY_CELLS - 1] += 1

    def count_request(self, latency_us: float) -> None:
        """Count one answered request."""
        self._live[min(int(latency_us).bit_length(), LATENCY_CELLS - 1)] += 1

    def count_rejected(self, *, mistyped: bool = False) -> None:
        """Count one request refused before the model ran; ``mistyped``: for its types or shapes."""
        # This one first: killed in between, a window never has more mistyped ones than refused.
        self._live[REJECTED] += 1
        if mistyped:
            self._live[MISTYPED] += 1

    def count_failed(self) -> None:
        """Count one request in which the model or runtime failed."""
        self._live[FAILED] += 1

    def record_label(
        self, score_bin: int | None, predicted: int, actual: int, slices: int = 0
    ) -> None:
        """Count a classified row whose true class is known now.

        Args:
            score_bin: `Layout.score_bin` of its score, or None.
            predicted: index of the predicted class.
            actual: index of the true class.
            slices: that the row is in, bits as from `Memberships`.

        Raises:
            ProfileError: not a classifier, or no such class or bin. Nothing is counted then.
        """
        # All rows first: killed in between, a slice never has more labels than the whole.
        self._memory.labels.record(score_bin, predicted, actual)
        for index, labels in enumerate(self._memory.slice_labels if slices else ()):
            if slices >> index & 1:
                labels.record(score_bin, predicted, actual)

    def record_error(self, predicted: float, actual: float, slices: int = 0) -> None:
        """Count a regressed row whose true value is known now. Raises `ProfileError`."""
        self._memory.labels.record_error(predicted, actual)
        for index, labels in enumerate(self._memory.slice_labels if slices else ()):
            if slices >> index & 1:
                labels.record_error(predicted, actual)

    def flush(self) -> None:
        """Move the ring's rows into the counts (when idle; `window` does it, too)."""
        length, bank = self._state >> 1, self._state & 1
        if not length:
            return
        other = 1 - bank
        source, target = self._banks[bank], self._banks[other]
        target.counts[:] = source.counts
        target.sums[:] = source.sums
        self._cells.count(self._ring[:length], target, self._kernel)
        self._memory.seal(other)
        # This object first: an exception raised in between (a signal handler's) then leaves it at
        # the new bank, and its next store makes the buffer agree.
        self._state = other
        self._word[0] = other

    def window(self, start_ms: int, end_ms: int) -> Window:
        """Flush, and return everything counted so far as the window of this period."""
        self.flush()
        live = self._live.tolist()
        latency = tuple(live[:LATENCY_CELLS])
        tables = self._banks[self._state & 1]
        return Window(
            profile_id=self.layout.profile_id,
            start_ms=start_ms,
            end_ms=end_ms,
            rows=int(tables.rows[0]),
            features=self._features(tables),
            ops=OpsCounts(sum(latency), live[REJECTED], live[FAILED], latency, live[MISTYPED]),
            quality=self._memory.labels.counted(),
            score_cells=tuple(tables.scores.tolist()) or None,
            duplicates=int(tables.duplicates[0]),
            slices=self._slices(tables),
        )

    def close(self) -> None:
        """Let go of the buffer, so that a mapped file can be closed. The accumulator is dead then."""
        self._ring = np.empty((0, self.width), np.float32)
        self._memory.release()

    def _features(self, tables: Tables) -> tuple[FeatureCounts, ...]:
        cells, starts = tables.cells.tolist(), self._cells.starts
        features = []
        for index, feature in enumerate(self.layout.features):
            low, high = float(tables.low[index]), float(tables.high[index])
            seen = low == low  # noqa: PLR0124 — NaN: nothing finite was counted
            features.append(
                FeatureCounts(
                    cells=tuple(cells[starts[index] : starts[index + 1]]),
                    nulls=int(tables.nulls[index]),
                    pos_inf=int(tables.pos_inf[index]),
                    neg_inf=int(tables.neg_inf[index]),
                    total=rounded(float(tables.total[index]), feature.total_quantum),
                    squares=rounded(float(tables.squares[index]), feature.squares_quantum),
                    min=low if seen else None,
                    max=high if seen else None,
                    repeats=int(tables.repeats[index]),
                )
            )
        return tuple(features)

    def _slices(self, tables: Tables) -> tuple[SliceCounts, ...]:
        sizes = self.layout.coarse_sizes
        return tuple(
            slice_of(counts, sizes, scored=bool(self.layout.score_cells), quality=quality)
            for counts, quality in zip(
                tables.slices.tolist(),
                (labels.counted() for labels in self._memory.slice_labels),
                strict=True,
            )
        )


def rounded(number: float, quantum: float) -> float:
    """Return the multiple of ``quantum`` nearest to ``number``."""
    steps = number / quantum
    return round(steps) * quantum if abs(steps) < 1 << 53 else number


def _layout(layout: Layout | Baseline) -> Layout:
    return layout.layout if isinstance(layout, Baseline) else layout
