"""Which messages of one outbox have been committed: the dedupe state of a stream.

A stream is (device, epoch); its messages carry ``seq`` 1, 2, 3, …, each used once. What was
received is kept as everything up to ``upto`` and a few closed ranges beyond it, so that the state
stays small however many messages there were and in whatever order they came.

Laws (tests/server/domain/test_streams.py): adding is idempotent and order does not matter;
ranges are disjoint, ascending, and neither touch each other nor ``upto``.
"""

from __future__ import annotations

from bisect import bisect_right

import msgspec

# Ranges come from gaps that a device has not filled (dropped windows, messages in flight). Past
# this many the stream is not healthy: further new ranges are refused until gaps are filled, and
# the device sends again from its lowest unacknowledged message.
MAX_RANGES = 512
# What one acknowledgement carries, lowest first; the next one carries on.
MAX_ACK_RANGES = 64


class StreamState(msgspec.Struct, frozen=True):
    """The state as it is stored: all of 1…``upto`` and of each closed range was committed."""

    upto: int = 0
    ranges: tuple[tuple[int, int], ...] = ()


class Stream:
    """A stream's received messages, mutable while a batch is sorted out.

    >>> stream = Stream(StreamState())
    >>> [stream.add(seq) for seq in (1, 3, 3, 2)]
    [True, True, False, True]
    >>> stream.state
    StreamState(upto=3, ranges=())
    """

    def __init__(self, state: StreamState) -> None:
        self._upto = state.upto
        self._starts = [low for low, _ in state.ranges]
        self._ends = [high for _, high in state.ranges]

    @property
    def state(self) -> StreamState:
        """The present state."""
        return StreamState(self._upto, tuple(zip(self._starts, self._ends, strict=True)))

    @property
    def highest(self) -> int:
        """The highest sequence number received; 0 for none."""
        return self._ends[-1] if self._ends else self._upto

    @property
    def missing(self) -> int:
        """How many numbers below `highest` have not been received."""
        held = sum(self._ends) - sum(self._starts) + len(self._starts)
        return self.highest - self._upto - held

    def __contains__(self, seq: int) -> bool:
        """Return whether ``seq`` was received."""
        if seq <= self._upto:
            return True
        at = bisect_right(self._starts, seq) - 1
        return at >= 0 and seq <= self._ends[at]

    def held(self, first: int, last: int) -> int:
        """Return how many of the numbers ``first`` to ``last`` (both included) were received."""
        spans = ((1, self._upto), *zip(self._starts, self._ends, strict=True))
        return sum(max(min(high, last) - max(low, first) + 1, 0) for low, high in spans)

    def has_room(self, seq: int) -> bool:
        """Return whether ``seq`` can be added without passing the limit of ranges."""
        if len(self._starts) < MAX_RANGES or seq in self or seq == self._upto + 1:
            return True
        at = bisect_right(self._starts, seq) - 1
        touches_left = at >= 0 and self._ends[at] == seq - 1
        touches_right = at + 1 < len(self._starts) and self._starts[at + 1] == seq + 1
        return touches_left or touches_right

    def add(self, seq: int) -> bool:
        """Record ``seq`` (1 or higher); return False when it was there already."""
        if seq in self:
            return False
        at = bisect_right(self._starts, seq)
        joins_left = at > 0 and self._ends[at - 1] == seq - 1
        joins_right = at < len(self._starts) and self._starts[at] == seq + 1
        if joins_left and joins_right:
            self._ends[at - 1] = self._ends[at]
            del self._starts[at], self._ends[at]
        elif joins_left:
            self._ends[at - 1] = seq
        elif joins_right:
            self._starts[at] = seq
        else:
            self._starts.insert(at, seq)
            self._ends.insert(at, seq)
        if self._starts and self._starts[0] == self._upto + 1:
            self._upto = self._ends[0]
            del self._starts[0], self._ends[0]
        return True

    def ack(self) -> tuple[int, tuple[tuple[int, int], ...]]:
        """Return what an acknowledgement says: ``upto`` and the lowest ranges beyond it."""
        low = self._starts[:MAX_ACK_RANGES]
        return self._upto, tuple(zip(low, self._ends[:MAX_ACK_RANGES], strict=True))
