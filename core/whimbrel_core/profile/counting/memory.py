"""The memory of an accumulator: one buffer, laid out by the layout alone.

::

    header   magic, profile id, sizes          written once, the magic last
    word     rows in the ring · 2 + bank       one aligned 8-byte store commits every step
    live     requests, latency, labels         each event is one 8-byte store
    bank 0   counts, sums, last row, checksum  the bank named by the word is true,
    bank 1   counts, sums, last row, checksum  the other is scratch
    ring     up to 4096 rows of float32
"""

from __future__ import annotations

import struct
import zlib
from mmap import mmap
from typing import TYPE_CHECKING, Any, Union

import numpy as np

from whimbrel_core.errors import ProfileError
from whimbrel_core.profile.counting.cells import cells_of
from whimbrel_core.profile.counting.labelled import LabelCells
from whimbrel_core.profile.counting.tables import Tables
from whimbrel_core.profile.counting.tensors import Tensors
from whimbrel_core.profile.counts import LATENCY_CELLS

if TYPE_CHECKING:
    from whimbrel_core.profile.counting.tables import Floats32
    from whimbrel_core.profile.layout import Layout

Buffer = Union[memoryview, bytearray, mmap]  # noqa: UP007 — evaluated by Python 3.10 at import

MAGIC = b"WHIMACC1"
MAX_RING_ROWS = 4096
REJECTED = LATENCY_CELLS
FAILED = LATENCY_CELLS + 1
MISTYPED = LATENCY_CELLS + 2
_RING_BYTES = 320 * 1024  # 4096 rows of 20 float32 features
_MIN_RING_ROWS = 256
_PROFILE_AT = 8
_SIZES_AT = 40
_WORD_AT = 64
_LIVE_AT = 128
_LABELS = LATENCY_CELLS + 3  # from here: quality counts


class Plan:
    """Where everything of one layout lies in a buffer."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.cells = cells_of(layout)
        width = self.cells.width
        rows = MAX_RING_ROWS
        while rows > _MIN_RING_ROWS and rows * width * 4 > _RING_BYTES:
            rows //= 2
        self.ring_rows = rows
        self.labels = LabelCells.length(layout)
        self.sliced = LabelCells.length(layout, sliced=True)
        self.live = _LABELS + self.labels + len(layout.slices) * self.sliced
        self.counts = Tables.count_length(layout)
        self.sums = 4 * len(layout.features) + width
        self.bank = 8 * (self.counts + self.sums + 1)
        self.banks_at = _aligned(_LIVE_AT + 8 * self.live)
        self.ring_at = _aligned(self.banks_at + 2 * self.bank)
        self.size = self.ring_at + rows * width * 4
        self.sizes = np.array([rows, width, self.counts, self.live, self.size, 0], "<u4").tobytes()
        self.tensors = Tensors(self.cells)
        self.row_bytes = 4 * width
        self.pack_row = struct.Struct(f"={width}f").pack_into


class Memory:
    """The parts of one buffer, as views into it.

    Args:
        plan: where they are.
        buffer: writable memory of ``plan.size`` bytes; None: private memory.

    Raises:
        ProfileError: the buffer has another size, or is read-only.
    """

    def __init__(self, plan: Plan, buffer: Buffer | None) -> None:
        memory = memoryview(bytearray(plan.size) if buffer is None else buffer).cast("B")
        if len(memory) != plan.size or memory.readonly:
            raise ProfileError(
                f"a buffer of {plan.size} writable bytes is needed, got {len(memory)}"
                f"{' read-only ones' if memory.readonly else ''}",
                code="profile.buffer",
            )
        self._plan = plan
        self._memory = memory
        self.word = memory[_WORD_AT : _WORD_AT + 8].cast("Q")
        live = memory[_LIVE_AT : _LIVE_AT + 8 * plan.live]
        self.live = live.cast("Q")
        labels = live[8 * _LABELS :]
        self.labels = LabelCells(plan.layout, labels[: 8 * plan.labels])
        self.slice_labels = [
            LabelCells(plan.layout, labels[8 * at : 8 * (at + plan.sliced)], sliced=True)
            for at in range(plan.labels, plan.live - _LABELS, plan.sliced)
        ]
        self.banks = [self._tables(0), self._tables(1)]
        ends = [plan.banks_at + (bank + 1) * plan.bank for bank in (0, 1)]
        self._seals = [memory[end - 8 : end].cast("Q") for end in ends]
        self.ring: Floats32 = np.frombuffer(memory, np.float32, offset=plan.ring_at).reshape(
            plan.ring_rows, plan.cells.width
        )
        # The ring again, without numpy: what it takes to write one row there is half of the cost.
        self.ring_bytes = memory[plan.ring_at :]
        self.ring_numbers = self.ring_bytes.cast("f")

    def initialise(self) -> None:
        """Make this the memory of a window in which nothing was counted."""
        memory = self._memory
        memory[: len(MAGIC)] = bytes(len(MAGIC))  # not a profile until all of it is one
        memory[_PROFILE_AT:_SIZES_AT] = bytes.fromhex(self._plan.layout.profile_id)
        memory[_SIZES_AT:_WORD_AT] = self._plan.sizes
        memory[_WORD_AT : self._plan.ring_at] = bytes(self._plan.ring_at - _WORD_AT)
        self.banks[0].low[:] = self.banks[0].high[:] = np.nan
        self.seal(0)
        memory[: len(MAGIC)] = MAGIC

    def require(self) -> None:
        """Require that a window of this layout was left here, whole.

        Raises:
            ProfileError: another layout, another size, never initialised, or torn by a power cut.
        """
        memory, plan = self._memory, self._plan
        if memory[: len(MAGIC)] != MAGIC:
            raise ProfileError(
                "this buffer holds no profile, or its initialisation was interrupted",
                hint="start a new one: no row was counted in it",
                code="profile.buffer",
            )
        if memory[_PROFILE_AT:_SIZES_AT] != bytes.fromhex(plan.layout.profile_id) or (
            memory[_SIZES_AT:_WORD_AT] != plan.sizes
        ):
            raise ProfileError(
                f"this buffer belongs to profile {bytes(memory[_PROFILE_AT:_SIZES_AT]).hex()[:12]}…"
                f", not to {plan.layout.profile_id[:12]}…",
                hint="attach it with the layout of the bundle that it was opened for",
                code="profile.mismatch",
            )
        state = self.word[0]
        bank = state & 1
        if state >= 2 * plan.ring_rows or self._checksum(bank) != self._seals[bank][0]:
            raise ProfileError(
                "this buffer is torn: its counts do not match their checksum",
                hint="start a new one: the machine lost power while this window was open",
                code="profile.torn",
            )

    def seal(self, bank: int) -> None:
        """Write the checksum of a bank that was filled."""
        self._seals[bank][0] = self._checksum(bank)

    def release(self) -> None:
        """Let go of the buffer, so that a mapped file can be closed."""
        self.banks.clear()
        self.ring = np.empty((0, self._plan.cells.width), np.float32)
        for labels in (self.labels, *self.slice_labels):
            labels.release()
        views: tuple[memoryview[Any], ...] = (
            self.word,
            self.live,
            self.ring_numbers,
            self.ring_bytes,
            self._memory,
        )
        for view in (*self._seals, *views):
            view.release()

    def _tables(self, bank: int) -> Tables:
        plan = self._plan
        at = plan.banks_at + bank * plan.bank
        counts = np.frombuffer(self._memory, np.int64, plan.counts, at)
        sums = np.frombuffer(self._memory, np.float64, plan.sums, at + 8 * plan.counts)
        return Tables(plan.layout, counts, sums)

    def _checksum(self, bank: int) -> int:
        at = self._plan.banks_at + bank * self._plan.bank
        return zlib.crc32(self._memory[at : at + self._plan.bank - 8])


def _aligned(at: int) -> int:
    """Return ``at`` rounded up to a cache line."""
    return (at + 63) & ~63
