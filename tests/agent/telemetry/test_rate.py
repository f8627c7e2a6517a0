"""A slot tells by itself when it is asked far more, or far less, than usual."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from whimbrel_agent.telemetry.outbox import MAX_EVENT_CHARS
from whimbrel_agent.telemetry.rate import RateWatch, Turned, detail, form
from whimbrel_agent.telemetry.watchfile import WatchFile
from whimbrel_core.profile.counts import LATENCY_CELLS, OpsCounts
from whimbrel_core.profile.watching import testimony
from whimbrel_core.profile.watching.rate import judged
from whimbrel_core.profile.window import Window

if TYPE_CHECKING:
    from pathlib import Path

    from whimbrel_core.profile.watching.rate import Rate

HOUR_MS = 3_600_000
QUIET_HOURS = 8 * 24


def window(hour: int, requests: int, rows: int | None = None) -> Window:
    """Return an hour's window; a request has one row unless something else is said."""
    latency = (requests, *[0] * (LATENCY_CELLS - 1))
    return Window(
        profile_id="ab" * 32,
        start_ms=hour * HOUR_MS,
        end_ms=(hour + 1) * HOUR_MS,
        rows=requests if rows is None else rows,
        features=(),
        ops=OpsCounts(requests, 0, 0, latency),
    )


def week() -> list[Window]:
    counts = np.random.default_rng(4).poisson(400, size=QUIET_HOURS)
    return [window(hour, int(count)) for hour, count in enumerate(counts)]


def file(folder: Path) -> WatchFile:  # type: ignore[type-arg]
    return WatchFile(folder / "rate", "delays", "", form)


def turns(watch: RateWatch, windows: list[Window]) -> list[Turned]:
    said = [watch.observe(one) for one in windows]
    return [turned for turned in said if turned is not None]


def told(watch: RateWatch, windows: list[Window]) -> list[Rate]:
    return [turned.rate for turned in turns(watch, windows)]


def test_an_alarm_is_told_when_it_begins_and_when_it_is_over(tmp_path: Path) -> None:
    watch = RateWatch(file(tmp_path))
    assert not told(watch, week())
    busy = [window(QUIET_HOURS + hour, 2000) for hour in range(3)]
    calm = [window(QUIET_HOURS + 3 + hour, 400) for hour in range(6)]
    first, last = turns(watch, busy + calm)
    began, over = first.rate, last.rate
    assert (began.start_ms, began.now) == ((QUIET_HOURS + 1) * HOUR_MS, "severe")
    assert (over.before, over.now) == ("severe", "ok")
    said = detail(first)
    assert said["requests"] == "2000"
    assert float(said["expected"]) == pytest.approx(400, rel=0.5)
    assert "times as many" in said["what"]
    # With what goes along anybody can judge the period again; the outbox cuts longer texts.
    assert max(map(len, said.values())) < MAX_EVENT_CHARS
    assert judged(*testimony.opened(said["usual"]))[1] == began
    assert "usual" not in detail(last)


def test_what_is_usual_outlives_the_process_but_its_first_and_last_windows_are_parts(
    tmp_path: Path,
) -> None:
    before = RateWatch(file(tmp_path))
    told(before, week())
    before.observe(window(QUIET_HOURS, 20), ending=True)
    after = RateWatch(file(tmp_path))
    few = [window(QUIET_HOURS, 30), *(window(QUIET_HOURS + 1 + hour, 400) for hour in range(4))]
    assert not told(after, few)
    many = [window(QUIET_HOURS + 5 + hour, 3000) for hour in range(3)]
    assert [rate.now for rate in told(after, many)] == ["severe"]


def test_a_request_of_many_rows_is_one_request() -> None:
    watch = RateWatch()
    told(watch, week())
    batches = [window(QUIET_HOURS + hour, 400, rows=40_000) for hour in range(4)]
    assert not told(watch, batches)
