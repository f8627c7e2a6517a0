"""Counts survive the death of whoever counts them: killed at any line, torn, or not theirs."""

from __future__ import annotations

import mmap
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from tests.core.profile.rows import small_rows, without_sums
from tests.core.profile.samples import SLICED, SMALL
from whimbrel_core.errors import ProfileError
from whimbrel_core.profile.counting import accumulator as accumulator_module
from whimbrel_core.profile.counting.accumulator import Accumulator
from whimbrel_core.profile.feature import Feature
from whimbrel_core.profile.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType


_PROFILE = str(Path(accumulator_module.__file__).parent)


def test_killed_at_any_line_of_an_update_no_row_is_lost_or_doubled() -> None:
    rows = small_rows(4096 + 40)
    buffer = bytearray(Accumulator.size(SLICED))
    accumulator = Accumulator(SLICED, buffer)
    accumulator.update({name: tensor[:4090] for name, tensor in rows.items()})
    batch = {name: tensor[4090:4110] for name, tensor in rows.items()}
    states = list(dict.fromkeys(_at_every_line(lambda: accumulator.update(batch), buffer)))
    assert len(states) > 5
    seen = set()
    for state in states:
        found = Accumulator.attach(SLICED, bytearray(state))
        seen.add(found.rows)
        window = found.window(0, 1)
        expected = Accumulator(SLICED)
        expected.update({name: tensor[: window.rows] for name, tensor in rows.items()})
        assert without_sums(window) == without_sums(expected.window(0, 1))
    # Before; after the six that fill the ring were flushed; after all.
    assert seen == {4090, 4096, 4110}


def test_killed_at_any_line_of_a_flush_every_row_stands() -> None:
    buffer = bytearray(Accumulator.size(SLICED))
    accumulator = Accumulator(SLICED, buffer)
    accumulator.update(small_rows(50, seed=1))
    accumulator.flush()
    accumulator.update(small_rows(70, seed=2))
    for _ in range(2):  # both banks take their turn
        states = list(dict.fromkeys(_at_every_line(accumulator.flush, buffer)))
        expected = without_sums(accumulator.window(0, 1))
        for state in states:
            assert (
                without_sums(Accumulator.attach(SLICED, bytearray(state)).window(0, 1)) == expected
            )
        accumulator.update(small_rows(30, seed=3))


def _at_every_line(act: Callable[[], object], buffer: bytearray) -> list[bytes]:
    """Run ``act`` and return what ``buffer`` held before every line of the profile package."""
    states: list[bytes] = []

    def trace(frame: FrameType, event: str, _arg: object) -> Callable[..., Any] | None:
        if not frame.f_code.co_filename.startswith(_PROFILE):
            return None
        if event == "line":
            states.append(bytes(buffer))
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        act()
    finally:
        sys.settrace(before)
    return [*states, bytes(buffer)]


_COUNTER = """
import mmap, sys
import numpy as np
from tests.core.profile.samples import SLICED
from whimbrel_core.profile.counting.accumulator import Accumulator
with open(sys.argv[1], "r+b") as file:
    accumulator = Accumulator(SLICED, mmap.mmap(file.fileno(), 0))
values = [3.0, 6.0, 1.0, 0.3]
row = np.array(values, np.float32)
while True:
    for _ in range(97):
        accumulator.update_row(row)
    for _ in range(97):
        accumulator.update_values(values, 20.0)
    print(accumulator.rows, flush=True)
"""


def test_a_mapped_file_survives_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "window.open"
    path.write_bytes(bytes(Accumulator.size(SLICED)))
    root = Path(__file__).parents[3]
    with subprocess.Popen(
        [sys.executable, "-c", _COUNTER, str(path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(root), *sys.path])},
    ) as counter:
        assert counter.stdout is not None
        told = 0
        while told < 10_000:  # two flushes and a half
            told = int(counter.stdout.readline())
        counter.send_signal(signal.SIGKILL)
        told = max([told, *(int(line) for line in counter.stdout if line.endswith("\n"))])
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        accumulator = Accumulator.attach(SLICED, memory)
        # What it told of is there; what it counted after its last word may be, too.
        assert told <= accumulator.rows <= told + 2 * 97
        window = accumulator.window(0, 1)
        assert window.features[1].cells == (0, window.rows, 0, 0)
        assert [one.rows for one in window.slices] == [0, *[window.rows] * 3, 0, 0]
        accumulator.close()  # or the map could not be closed


def test_a_buffer_that_is_not_this_window_is_refused() -> None:
    size = Accumulator.size(SMALL)
    with pytest.raises(ProfileError, match="holds no profile") as refusal:
        Accumulator.attach(SMALL, bytearray(size))
    assert refusal.value.code == "profile.buffer"
    for wrong in (bytearray(size - 1), memoryview(bytes(size))):
        with pytest.raises(ProfileError, match="writable"):
            Accumulator(SMALL, wrong)
    buffer = bytearray(size)
    Accumulator(SMALL, buffer).update(small_rows(10))
    renamed = msgspec.structs.replace(SMALL, classes=("early", "late"))
    with pytest.raises(ProfileError) as refusal:
        Accumulator.attach(renamed, buffer)
    assert refusal.value.code == "profile.mismatch"


def test_a_buffer_torn_by_a_power_cut_is_refused() -> None:
    buffer = bytearray(Accumulator.size(SMALL))
    accumulator = Accumulator(SMALL, buffer)
    accumulator.update(small_rows(10))
    accumulator.flush()
    whole = bytes(buffer)
    for at in range(accumulator._plan.banks_at + accumulator._plan.bank, len(buffer), 64):
        torn = bytearray(whole)
        torn[at] ^= 1
        if at >= accumulator._plan.banks_at + 2 * accumulator._plan.bank:
            break
        with pytest.raises(ProfileError) as refusal:
            Accumulator.attach(SMALL, torn)
        assert refusal.value.code == "profile.torn"


def test_state_of_twenty_features_is_below_four_hundred_kilobytes() -> None:
    features = tuple(
        Feature(
            name=str(i), kind="numeric", role="input", tensor="x", column=i,
            edges=tuple(float(edge) for edge in range(102)),
        )
        for i in range(20)
    )  # fmt: skip
    assert Accumulator.size(Layout(task="regression", features=features)) <= 400_000
