"""Count rows on the device, cheaply, in a buffer that survives kill -9.

Everything lives in one buffer, which the agent maps from a file: the pages outlive the process.

::

    header   magic, profile id, sizes          written once, the magic last
    word     rows in the ring · 2 + bank       one aligned 8-byte store commits every step
    live     requests, latency, labels         each event is one 8-byte store
    bank 0   counts, sums, checksum            the bank named by the word is true,
    bank 1   counts, sums, checksum            the other is scratch
    ring     up to 4096 rows of float32

A row is written into the ring first and then counted in the word. A flush adds the ring's rows
to the active bank's numbers *into the other bank*, and then stores one word that both switches
the bank and empties the ring. Killed before that store, the old bank and the ring's rows stand;
killed after it, the new bank does: no row is lost or counted twice.

A power cut is different: pages reach the disk in any order. The checksum of a bank tells a torn
one on `Accumulator.attach`; at most the open window is lost then, and never a wrong one used.
"""

from __future__ import annotations

import struct
import zlib
from mmap import mmap
from typing import TYPE_CHECKING, Any, Union

import numpy as np

from whimbrel_core.errors import ProfileError
from whimbrel_core.profile.baseline import Baseline
from whimbrel_core.profile.cells import (
    Cells,
    Floats32,
    Kernel,
    Tables,
    cells_of,
    fastest_kernel,
)
from whimbrel_core.profile.counts import LATENCY_CELLS, FeatureCounts, OpsCounts, QualityCounts
from whimbrel_core.profile.tensors import Tensors
from whimbrel_core.profile.window import Window

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from whimbrel_core.profile.layout import Layout

Buffer = Union[memoryview, bytearray, mmap]  # noqa: UP007 — evaluated by Python 3.10 at import

MAGIC = b"WHIMACC1"
MAX_RING_ROWS = 4096
_RING_BYTES = 320 * 1024  # 4096 rows of 20 float32 features
_MIN_RING_ROWS = 256
_PROFILE_AT = 8
_SIZES_AT = 40
_WORD_AT = 64
_LIVE_AT = 128
_REJECTED = LATENCY_CELLS
_FAILED = LATENCY_CELLS + 1
_LABELS = LATENCY_CELLS + 2  # from here: quality counts


class _Plan:
    """Where everything of one layout lies in a buffer."""

    def __init__(self, layout: Layout) -> None:
        self.cells = cells_of(layout)
        width = self.cells.width
        rows = MAX_RING_ROWS
        while rows > _MIN_RING_ROWS and rows * width * 4 > _RING_BYTES:
            rows //= 2
        self.ring_rows = rows
        self.scores = 2 * layout.score_bins if layout.score_tensor is not None else 0
        self.confusion = layout.confusion_size
        # Labels: wrong, right, then scores and confusion. A regression has n and three sums.
        self.live = _LABELS + 2 + self.scores + self.confusion**2 + (2 if not layout.classes else 0)
        self.counts = Tables.count_length(layout)
        self.sums = 4 * len(layout.features)
        self.bank = 8 * (self.counts + self.sums + 1)
        self.banks_at = _aligned(_LIVE_AT + 8 * self.live)
        self.ring_at = _aligned(self.banks_at + 2 * self.bank)
        self.size = self.ring_at + rows * width * 4
        self.sizes = np.array([rows, width, self.counts, self.live, self.size, 0], "<u4").tobytes()
        self.tensors = Tensors(self.cells)
        self.row_bytes = 4 * width
        self.pack_row = struct.Struct(f"={width}f").pack_into


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
        memory = self._memory
        memory[: len(MAGIC)] = bytes(len(MAGIC))  # not a profile until all of it is one
        memory[_PROFILE_AT:_SIZES_AT] = bytes.fromhex(self.layout.profile_id)
        memory[_SIZES_AT:_WORD_AT] = self._plan.sizes
        memory[_WORD_AT : self._plan.ring_at] = bytes(self._plan.ring_at - _WORD_AT)
        self._banks[0].low[:] = self._banks[0].high[:] = np.nan
        self._seal(0)
        memory[: len(MAGIC)] = MAGIC

    @staticmethod
    def size(layout: Layout | Baseline) -> int:
        """Return the number of bytes that a buffer for ``layout`` must have."""
        return _Plan(_layout(layout)).size

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
        memory, plan = self._memory, self._plan
        if memory[: len(MAGIC)] != MAGIC:
            raise ProfileError(
                "this buffer holds no profile, or its initialisation was interrupted",
                hint="start a new one: no row was counted in it",
                code="profile.buffer",
            )
        if memory[_PROFILE_AT:_SIZES_AT] != bytes.fromhex(self.layout.profile_id) or (
            memory[_SIZES_AT:_WORD_AT] != plan.sizes
        ):
            raise ProfileError(
                f"this buffer belongs to profile {bytes(memory[_PROFILE_AT:_SIZES_AT]).hex()[:12]}…"
                f", not to {self.layout.profile_id[:12]}…",
                hint="attach it with the layout of the bundle that it was opened for",
                code="profile.mismatch",
            )
        self._state = self._word[0]
        bank = self._state & 1
        if self._state >= self._full or self._checksum(bank) != self._seals[bank][0]:
            raise ProfileError(
                "this buffer is torn: its counts do not match their checksum",
                hint="start a new one: the machine lost power while this window was open",
                code="profile.torn",
            )
        return self

    def _open(
        self, layout: Layout | Baseline, buffer: Buffer | None, kernel: Kernel | None
    ) -> None:
        self.layout = _layout(layout)
        self._plan = plan = _Plan(self.layout)
        self._cells: Cells = plan.cells
        self._kernel: Kernel = kernel if kernel is not None else fastest_kernel()
        memory = memoryview(bytearray(plan.size) if buffer is None else buffer).cast("B")
        if len(memory) != plan.size or memory.readonly:
            raise ProfileError(
                f"a buffer of {plan.size} writable bytes is needed, got {len(memory)}"
                f"{' read-only ones' if memory.readonly else ''}",
                code="profile.buffer",
            )
        self._memory = memory
        self._word = memory[_WORD_AT : _WORD_AT + 8].cast("Q")
        self._live = memory[_LIVE_AT : _LIVE_AT + 8 * plan.live].cast("Q")
        self._errors = memory[_LIVE_AT + 8 * (plan.live - 3) : _LIVE_AT + 8 * plan.live].cast("d")
        self._banks = [self._tables(0), self._tables(1)]
        ends = [plan.banks_at + (bank + 1) * plan.bank for bank in (0, 1)]
        self._seals = [memory[end - 8 : end].cast("Q") for end in ends]
        self._ring: Floats32 = np.frombuffer(memory, np.float32, offset=plan.ring_at).reshape(
            plan.ring_rows, self._cells.width
        )
        # The ring again, without numpy: what it takes to write one row there is half of the cost.
        self._ring_memory = memory[plan.ring_at :]
        self._ring_numbers = self._ring_memory.cast("f")
        self._width = self._cells.width
        self._pack_row = plan.pack_row
        self._row_bytes = plan.row_bytes
        self._state = 0  # the word's value
        self._full = 2 * plan.ring_rows

    def _tables(self, bank: int) -> Tables:
        plan = self._plan
        at = plan.banks_at + bank * plan.bank
        counts = np.frombuffer(self._memory, np.int64, plan.counts, at)
        sums = np.frombuffer(self._memory, np.float64, plan.sums, at + 8 * plan.counts)
        return Tables(self.layout, counts, sums)

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
            self._pack_row(self._ring_memory, (state >> 1) * self._row_bytes, *values)
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

    def count_rejected(self) -> None:
        """Count one request refused before the model ran."""
        self._live[_REJECTED] += 1

    def count_failed(self) -> None:
        """Count one request in which the model or runtime failed."""
        self._live[_FAILED] += 1

    def record_label(self, score_bin: int | None, predicted: int, actual: int) -> None:
        """Count a classified row whose true class is known now.

        Args:
            score_bin: `Layout.score_bin` of its score, or None.
            predicted: index of the predicted class.
            actual: index of the true class.

        Raises:
            ProfileError: not a classifier, or no such class or bin. Nothing is counted then.
        """
        layout = self.layout
        classes = len(layout.classes)
        if not (0 <= predicted < classes and 0 <= actual < classes) or not (
            score_bin is None or 0 <= score_bin < layout.score_bins
        ):
            raise ProfileError(
                f"no such label: predicted class {predicted}, true class {actual}, score bin "
                f"{score_bin} in a model of {classes} classes",
                code="profile.label",
            )
        right = predicted == actual
        # Rows before scores: killed in between, a window never has more scores than rows.
        if self._plan.confusion:
            base = _LABELS + 2 + self._plan.scores
            self._live[base + predicted * self._plan.confusion + actual] += 1
        else:
            self._live[_LABELS + right] += 1
        if score_bin is not None and self._plan.scores:
            claim = actual == layout.positive if layout.binary else right
            self._live[_LABELS + 2 + 2 * score_bin + claim] += 1

    def record_error(self, predicted: float, actual: float) -> None:
        """Count a regressed row whose true value is known now. Raises `ProfileError`."""
        error = predicted - actual
        if self.layout.task != "regression" or not abs(error) < float("inf"):
            raise ProfileError(
                f"predicted {predicted!r} and true {actual!r} are no pair of a regression",
                code="profile.label",
            )
        errors = self._errors
        errors[0] += error
        errors[1] += abs(error)
        errors[2] += error * error
        self._live[_LABELS] += 1

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
        self._seal(other)
        # This object first: an exception raised in between (a signal handler's) then leaves it at
        # the new bank, and its next store makes the buffer agree.
        self._state = other
        self._word[0] = other

    def window(self, start_ms: int, end_ms: int) -> Window:
        """Flush, and return everything counted so far as the window of this period."""
        self.flush()
        latency = tuple(self._live[:LATENCY_CELLS].tolist())
        tables = self._banks[self._state & 1]
        return Window(
            profile_id=self.layout.profile_id,
            start_ms=start_ms,
            end_ms=end_ms,
            rows=int(tables.rows[0]),
            features=self._features(tables),
            ops=OpsCounts(sum(latency), self._live[_REJECTED], self._live[_FAILED], latency),
            quality=self._quality(),
            score_cells=tuple(tables.scores.tolist()) if self._plan.scores else None,
        )

    def close(self) -> None:
        """Let go of the buffer, so that a mapped file can be closed. The accumulator is dead then."""
        self._banks.clear()
        self._ring = np.empty((0, self.width), np.float32)
        views: tuple[memoryview[Any], ...] = (
            self._word,
            self._live,
            self._errors,
            self._ring_numbers,
            self._ring_memory,
            self._memory,
        )
        for view in (*self._seals, *views):
            view.release()

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
                )
            )
        return tuple(features)

    def _quality(self) -> QualityCounts | None:
        plan, live = self._plan, self._live.tolist()
        wrong_and_right, counts = live[_LABELS : _LABELS + 2], live[_LABELS + 2 :]
        if self.layout.task == "regression":
            rows = wrong_and_right[0]
            return QualityCounts(rows, 0, (), (), *self._errors.tolist()) if rows else None
        scores, confusion = counts[: plan.scores], counts[plan.scores :]
        if confusion:
            rows, right = sum(confusion), sum(confusion[:: plan.confusion + 1])
        else:
            rows, right = sum(wrong_and_right), wrong_and_right[1]
        return QualityCounts(rows, right, tuple(scores), tuple(confusion)) if rows else None

    def _checksum(self, bank: int) -> int:
        at = self._plan.banks_at + bank * self._plan.bank
        return zlib.crc32(self._memory[at : at + self._plan.bank - 8])

    def _seal(self, bank: int) -> None:
        self._seals[bank][0] = self._checksum(bank)


def rounded(number: float, quantum: float) -> float:
    """Return the multiple of ``quantum`` nearest to ``number``."""
    steps = number / quantum
    return round(steps) * quantum if abs(steps) < 1 << 53 else number


def _layout(layout: Layout | Baseline) -> Layout:
    return layout.layout if isinstance(layout, Baseline) else layout


def _aligned(at: int) -> int:
    """Return ``at`` rounded up to a cache line."""
    return (at + 63) & ~63
