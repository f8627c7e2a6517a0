"""The windows of one served model: which one a row belongs to, and when it is closed.

Windows are tumbling and aligned to UTC. A request that carries a time belongs to the window of
that time (*event time*), any other to the current one (*wall clock*, kept by the monotonic clock,
so that a clock that is set does not tear a window).

- Wall clock: a window with fewer than ``min_rows`` rows at its end goes on through the next
  period, for a day at most: few rows say nothing, but a quiet device must still be heard.
- Event time: a row of a later period closes every window whose end, and the allowed lateness, it
  has passed. A late row gets a window of its own period: counts are added on the server, so a
  late window is just another one. At most two are open at once, and one that nobody touches for
  ``idle_close_s`` is closed.
- Labels that arrive later are counted in windows back-dated to their predictions' period, apart
  from the rows.

Not thread-safe: one owner at a time.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, NamedTuple

from whimbrel_agent.telemetry import windowfile
from whimbrel_agent.telemetry.rows import RowWriter
from whimbrel_core.profile import counts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from whimbrel_agent.channel import ClosedWindow, ServingSettings
    from whimbrel_agent.telemetry.windowfile import OpenWindow, ServedModel
    from whimbrel_agent.telemetry.words import NewWords
    from whimbrel_core.bundle.manifest import DriftPolicy
    from whimbrel_core.profile.baseline import Baseline
    from whimbrel_core.profile.counting.accumulator import Accumulator
    from whimbrel_core.profile.counts import OpsCounts
    from whimbrel_core.profile.window import Window
    from whimbrel_core.wire.messages import Clock

    Sink = Callable[[Window, ClosedWindow, Path | None], None]

MAX_EVENT_WINDOWS = 2
MAX_LABEL_WINDOWS = 4
MAX_CARRY_MS = 86_400_000
_log = logging.getLogger("whimbrel.telemetry")


class Clocks(NamedTuple):
    """The two clocks that a recorder reads."""

    wall_ms: Callable[[], int]
    monotonic_s: Callable[[], float]


class Recorder:
    """Counts the rows of one model in one slot.

    Args:
        model: whose rows.
        baseline: the cells to count in.
        policy: length of a window and its minimum of rows.
        settings: lateness and idle time.
        directory: where open windows are kept.
        sink: is given every closed window, as counts and as a message, and the file it was in.
        clocks: wall and monotonic.
        clock: how far the wall clock is to be trusted.
        tensors: name and values per row of every input and output, in the order of the values
            that `record_row` is given.
        words: takes note of words that categories do not know; None: they are only counted.
    """

    def __init__(
        self,
        model: ServedModel,
        baseline: Baseline,
        policy: DriftPolicy,
        settings: ServingSettings,
        *,
        directory: Path,
        sink: Sink,
        clocks: Clocks,
        clock: Clock = "unsynced",
        tensors: Sequence[tuple[str, int]] = (),
        words: NewWords | None = None,
    ) -> None:
        self.model = model
        self.baseline = baseline
        self.layout = baseline.layout
        self._policy = policy
        self._settings = settings
        self._directory = directory
        self._sink = sink
        self._wall_ms = clocks.wall_ms
        self._monotonic = clocks.monotonic_s
        self._clock: Clock = clock
        self._period_ms = policy.window_s * 1000
        self._lateness_ms = int(settings.lateness_s * 1000)
        self._wall: OpenWindow | None = None
        self._deadline = 0.0
        self._events: OrderedDict[int, OpenWindow] = OrderedDict()
        self._current: OpenWindow | None = None
        self._labels: OrderedDict[int, OpenWindow] = OrderedDict()
        self._newest_ms = 0
        self._disk_trouble = False
        self._tensors = tensors
        self._words = words
        self._writer: RowWriter | None = None
        self.ended = counts.OpsCounts()

    def record(
        self,
        tensors: Mapping[str, NDArray[Any]],
        rows: int,
        at_ms: int | None = None,
        latency_us: float | None = None,
        row: Sequence[Any] | None = None,
    ) -> OpenWindow:
        """Count the rows of one answered request and return the window that they are in.

        Args:
            tensors: inputs and outputs by name, (rows, …).
            rows: number of rows.
            at_ms: event time; None for now.
            latency_us: None when this is not a request of its own.
            row: the values of the only row, as for `record_row`, where the caller has them.
        """
        window = self._window(at_ms)
        accumulator = window.accumulator
        writer = self._writer or self._plan(accumulator)
        if row is not None and writer.write(accumulator, row, latency_us):
            return window
        if rows != 1 or not writer.write_tensors(accumulator, tensors, latency_us):
            accumulator.update(tensors)
            if self._words is not None:
                self._words.look(tensors)
            if latency_us is not None:
                accumulator.count_request(latency_us)
        return window

    def record_row(
        self, row: Sequence[Any], at_ms: int | None = None, latency_us: float | None = None
    ) -> bool:
        """Count the answered request of one row, or return False: `record` must do it.

        Args:
            row: the values of all inputs and outputs, flat.
            at_ms: event time; None for now.
            latency_us: None when this is not a request of its own.
        """
        accumulator = self._window(at_ms).accumulator
        writer = self._writer or self._plan(accumulator)
        return writer.write(accumulator, row, latency_us)

    def count_rejected(self, *, mistyped: bool = False) -> None:
        """Count a request that was refused before the model ran; ``mistyped``: for its types."""
        self._ops_window().accumulator.count_rejected(mistyped=mistyped)

    def count_failed(self) -> None:
        """Count a request in which the model failed."""
        self._ops_window().accumulator.count_failed()

    def label_window(self, start_ms: int) -> OpenWindow:
        """Return the open window for labels of predictions in the period at ``start_ms``."""
        start_ms -= start_ms % self._period_ms
        window = self._labels.get(start_ms)
        if window is None:
            while len(self._labels) >= MAX_LABEL_WINDOWS:
                self._close(self._labels.popitem(last=False)[1])
            clock: Clock = "event" if self._newest_ms else self._clock
            window = self._labels[start_ms] = self._open(start_ms, clock)
        else:
            self._labels.move_to_end(start_ms)
        window.empty = False
        return window

    @property
    def open_windows(self) -> list[OpenWindow]:
        """Every window that is being filled."""
        wall = [] if self._wall is None else [self._wall]
        return [*wall, *self._events.values(), *self._labels.values()]

    def ops(self) -> OpsCounts:
        """Return requests, failures and latencies since this recorder was made."""
        total = self.ended
        for window in self.open_windows:
            total = counts.merge_ops(total, window.window().ops)
        return total

    def tick(self) -> None:
        """Close what has ended or been idle; call it every second or few."""
        now = self._monotonic()
        if self._wall is not None and now >= self._deadline:
            self._end_wall()
        idle = self._settings.idle_close_s
        for windows in (self._events, self._labels):
            for start, window in list(windows.items()):
                rows = window.accumulator.rows
                if window.touched == 0.0 or rows != window.seen:
                    window.touched, window.seen = now, rows
                elif now - window.touched >= idle:
                    del windows[start]
                    self._close(window)
        if self._current is not None and self._current not in self._events.values():
            self._current = None

    def close(self) -> None:
        """Close every window, as it is: the process ends, or the model is replaced."""
        for window in self.open_windows:
            self._close(window)
        self._wall = self._current = None
        self._events.clear()
        self._labels.clear()

    def _window(self, at_ms: int | None) -> OpenWindow:
        """Return the window that a row of this time belongs to."""
        if at_ms is None:
            window = self._wall
            if window is None or self._monotonic() >= self._deadline:
                window = self._roll()
        else:
            window = self._current
            if window is None or not window.start_ms <= at_ms < window.end_ms:
                window = self._event_window(at_ms)
        return window

    def _plan(self, accumulator: Accumulator) -> RowWriter:
        self._writer = RowWriter(
            self.layout,
            accumulator.width,
            self._tensors,
            unknown=None if self._words is None else self._words.meet,
        )
        return self._writer

    def _event_window(self, at_ms: int) -> OpenWindow:
        start = at_ms - at_ms % self._period_ms
        window = self._events.get(start)
        if window is None:
            self._newest_ms = at_ms
            for other, ended in list(self._events.items()):
                if ended.end_ms + self._lateness_ms <= at_ms:
                    del self._events[other]
                    self._close(ended)
            while len(self._events) >= MAX_EVENT_WINDOWS:
                self._close(self._events.popitem(last=False)[1])
            for other, labels in list(self._labels.items()):
                # Labels follow their predictions: one window more before theirs is sent.
                if labels.end_ms + self._period_ms + self._lateness_ms <= at_ms:
                    del self._labels[other]
                    self._close(labels)
            window = self._events[start] = self._open(start, "event")
        self._events.move_to_end(start)
        window.empty = False
        self._current = window
        return window

    def _ops_window(self) -> OpenWindow:
        """Return the window for a request without a time that can be believed: the last used."""
        window = self._current
        if window is None:
            window = self._wall
            if window is None or self._monotonic() >= self._deadline:
                window = self._roll()
        window.empty = False
        return window

    def _roll(self) -> OpenWindow:
        """Return the wall-clock window of now."""
        if self._wall is not None:
            self._end_wall()
        if self._wall is None:
            now_ms = self._wall_ms()
            start = now_ms - now_ms % self._period_ms
            self._wall = self._open(start, self._clock)
            self._deadline = self._monotonic() + (start + self._period_ms - now_ms) / 1000
        self._wall.empty = False
        return self._wall

    def _end_wall(self) -> None:
        """Close the wall-clock window, or carry it over when it has too few rows."""
        window = self._wall
        if window is None:
            return
        now_ms = self._wall_ms()
        end_ms = now_ms - now_ms % self._period_ms + self._period_ms
        carried = max(window.end_ms - window.start_ms, end_ms - window.start_ms)
        limit = max(MAX_CARRY_MS, self._period_ms)
        if window.accumulator.rows < self._policy.min_rows and carried <= limit:
            # A clock set back must not make a period run backwards.
            window.move(end_ms=max(end_ms, window.end_ms))
            self._deadline = self._monotonic() + max((end_ms - now_ms) / 1000, 1.0)
            return
        self._wall = None
        self._close(window)

    def _open(self, start_ms: int, clock: Clock) -> OpenWindow:
        return windowfile.open_window(
            self._directory,
            self.model,
            self.baseline,
            start_ms=start_ms,
            end_ms=start_ms + self._period_ms,
            clock=clock,
            on_disk_error=self._on_disk_error,
        )

    def _close(self, window: OpenWindow) -> None:
        if window is self._current:
            self._current = None
        if window.empty:
            window.discard()
            return
        counted, message = window.close(self.baseline, self._policy)
        self.ended = counts.merge_ops(self.ended, counted.ops)
        window.release()
        self._sink(counted, message, window.path)

    def _on_disk_error(self, error: OSError) -> None:
        if not self._disk_trouble:
            _log.warning(
                "%s: cannot make a file for a profile window (%s); it is kept in memory, and a"
                " crash would lose it",
                self.model.slot,
                error.strerror,
            )
        self._disk_trouble = True
