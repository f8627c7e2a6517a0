"""The closing table: what was promised beside what was seen, line by line."""

from __future__ import annotations

from calendar import month_name
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import joblib
import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from sklearn.metrics import roc_auc_score

from examples.flights import dashboard
from examples.flights.data import DEVICES
from examples.flights.release import MODEL
from examples.flights.replay import SLOT
from examples.flights.stage import CUT_DEVICE
from examples.flights.story import CANARY, FIRST_DAY, LAST_DAY

if TYPE_CHECKING:
    from examples.flights.stage import Stage
    from examples.flights.story import Story

_MIN_LABELS: Final = 200
_MONTHS: Final = range(FIRST_DAY.month, LAST_DAY.month + 1)


class Ledger:
    """Lines of promise and fact; `kept` is whether all of them hold."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, bool]] = []

    def line(self, promise: str, fact: str, *, holds: bool) -> None:
        """Add a line."""
        self.lines.append((promise, fact, holds))

    @property
    def kept(self) -> bool:
        """Whether every line holds."""
        return all(holds for _, _, holds in self.lines)


def close(story: Story) -> bool:
    """Print the tables, and return whether everything is as promised."""
    stage = story.stage
    console = Console(width=None if Console().is_terminal else 110, highlight=False)
    counts = {count["device"]: count for count in stage.get("counts") or []}
    status = {device: stage.agent_status(device) for device in DEVICES}
    ledger = Ledger()
    console.print(_devices(story, counts, status))
    console.print(_months(story, ledger))
    _telemetry(story, counts, status, ledger)
    _drift(story, ledger)
    _rollouts(story, ledger)
    _dashboard(story, ledger)
    table = Table(title="What was promised", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("", "promise", "seen"):
        table.add_column(heading)
    for promise, fact, holds in ledger.lines:
        table.add_row("[green]✓[/]" if holds else "[bold red]✗[/]", promise, fact)
    console.print(table)
    return ledger.kept


def _devices(story: Story, counts: dict[str, Any], status: dict[str, dict[str, Any]]) -> Table:
    headings = ("device", "serves", "flights", "labels", "sent", "committed", "windows")
    table = _table("Devices", *headings, "lost", "doubled", "MQTT", "bundles", left=2)
    for device in DEVICES:
        replay, count = story.replays[device], counts[device]
        table.add_row(
            device,
            _slot(status[device])["version"],
            f"{len(replay.answers.score):,}",
            f"{replay.labels_joined:,}",
            f"{status[device]['outbox']['last']:,}",
            f"{count['received']:,}",
            f"{count['windows']:,}",
            f"{count['lost']}",
            f"{_doubled(story, device, counts)}",
            _size(count["bytes"]),
            _size(status[device]["bytes_downloaded"]),
        )
    table.caption = (
        "sent and committed: windows and events; doubled: rows; MQTT: payloads sent; bundles: "
        "metadata, deltas and bundles fetched"
    )
    return table


def _table(title: str, *headings: str, left: int) -> Table:
    """Return a table whose first ``left`` columns are text and whose others are numbers."""
    table = Table(
        title=title, title_justify="left", caption_justify="left", box=SIMPLE_HEAD, pad_edge=False
    )
    for index, heading in enumerate(headings):
        table.add_column(heading, justify="left" if index < left else "right", no_wrap=index < left)
    return table


def _months(story: Story, ledger: Ledger) -> Table:
    """AUC by month: as the devices counted it, exactly, and had 1.0.0 stayed."""
    served = [story.replays[device].answers for device in DEVICES]
    time_ms = np.concatenate([a.time_ms for a in served])
    late = np.concatenate([a.late for a in served])
    score = np.concatenate([a.score for a in served])
    version = np.concatenate([np.asarray(a.version) for a in served])
    old = _old_scores(story)
    month = time_ms.astype("datetime64[ms]").astype("datetime64[M]").astype(int) % 12 + 1
    counted: dict[tuple[int, str], tuple[float | None, int]] = {}
    series = story.stage.get(f"models/{MODEL}/quality?step=month") or {}
    for name, points in series.items():
        for point in points:
            at = datetime.fromtimestamp(point["start_ms"] / 1000, tz=UTC).month
            counted[at, name] = (point["auc_realised"], point["labelled_rows"])

    table = _table("AUC by month, all three airports", "", "had 1.0.0 stayed", "as served", left=1)
    table.add_column("counted on the devices, by version (labels)")
    differences = []
    for number in _MONTHS:
        rows = month == number
        by_version = []
        for name in ("1.0.0", "1.1.0", "1.2.0"):
            auc, labels = counted.get((number, name), (None, 0))
            if auc is None or labels < _MIN_LABELS:
                continue
            by_version.append(f"{name}: {auc:.3f} ({labels:,})")
            mine = rows & (version == name)
            differences.append(abs(auc - roc_auc_score(late[mine], score[mine])))
        table.add_row(
            month_name[number],
            f"{roc_auc_score(late[rows], old[rows]):.3f}",
            f"{roc_auc_score(late[rows], score[rows]):.3f}",
            "  ".join(by_version),
        )
    worst = max(differences, default=1.0)
    ledger.line(
        "AUC from counts on the devices is that of all single answers, within .01",
        f"largest difference {worst:.4f}",
        holds=worst < 0.01,
    )
    after = version == "1.1.0"
    if after.any():
        was, now = roc_auc_score(late[after], old[after]), roc_auc_score(late[after], score[after])
        ledger.line(
            "1.1.0 ranks better than 1.0.0 on the same flights",
            f"AUC {was:.3f} → {now:.3f} on {int(after.sum()):,} flights",
            holds=now > was,
        )
    else:
        ledger.line("1.1.0 ranks better than 1.0.0", "it served nothing", holds=False)
    return table


def _old_scores(story: Story) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Score every flight that was answered with 1.0.0, in the order of the answers."""
    model = joblib.load(story.stage.machine.model_folder("1.0.0") / "model.joblib")
    scores = []
    for device in DEVICES:
        flights = story.flights.for_device(device)
        start = int(np.searchsorted(flights.time_ms, story.replays[device].answers.time_ms[0]))
        end = start + len(story.replays[device].answers.time_ms)
        scores.append(model.predict_proba(flights.features.iloc[start:end])[:, 1])
    return np.concatenate(scores)


def _telemetry(
    story: Story, counts: dict[str, Any], status: dict[str, dict[str, Any]], ledger: Ledger
) -> None:
    failed = [line for replay in story.replays.values() for line in replay.failed]
    requests = sum(replay.requests for replay in story.replays.values())
    ledger.line(
        "no request fails, through two updates, two kills and a month offline",
        f"{len(failed)} of {requests:,} failed" + (f", first: {failed[0]}" if failed else ""),
        holds=not failed,
    )
    # Sequence numbers on a device have no gaps: the last one is how many it ever sent.
    sent = sum(status[d]["outbox"]["last"] for d in DEVICES)
    committed = sum(counts[d]["received"] for d in DEVICES)
    windows = sum(counts[d]["windows"] for d in DEVICES)
    lost = sum(counts[d]["lost"] for d in DEVICES)
    doubled = sum(_doubled(story, d, counts) for d in DEVICES)
    ledger.line(
        "no window is lost, none is counted twice",
        f"{sent:,} windows and events sent, {committed:,} committed, {windows:,} windows merged; "
        f"{lost} lost, {doubled} rows doubled",
        holds=sent == committed and lost == 0 and doubled == 0,
    )
    answered = sum(len(story.replays[d].answers.score) for d in DEVICES)
    rows = sum(counts[d]["rows"] for d in DEVICES)
    ledger.line(
        "every answer is in the fleet's counts, once",
        f"{answered:,} flights answered, {rows:,} counted",
        holds=answered == rows,
    )
    ledger.line(
        f"{CUT_DEVICE} serves through a month without network",
        f"{story.facts.offline_requests:,} requests answered meanwhile",
        holds=story.facts.offline_requests > 0 and not story.replays[CUT_DEVICE].failed,
    )


def _drift(story: Story, ledger: Ledger) -> None:
    found = []
    for device in DEVICES:
        alert = story.facts.drift.get(device)
        if alert:
            when = datetime.fromtimestamp(alert["at_ms"] / 1000, tz=UTC)
            found.append(f"{device}: {alert['feature']} on {when:%d %B}")
    ledger.line(
        "drift is found on every device, before the summer, and named",
        "; ".join(found) or "none was found",
        holds=len(found) == len(DEVICES)
        and all(
            datetime.fromtimestamp(a["at_ms"] / 1000, tz=UTC).month < 6
            for a in story.facts.drift.values()
        ),
    )
    ledger.line(
        "the alarm leads to a new version without a hand",
        "1.1.0 was trained, packed, proven and published"
        if story.facts.retraining
        else "no retraining was asked for",
        holds=story.facts.retraining is not None,
    )


def _rollouts(story: Story, ledger: Ledger) -> None:
    good, bad = (story.facts.rollouts.get(v, {}) for v in ("1.1.0", "1.2.0"))
    ledger.line(
        f"1.1.0 goes to {CANARY}, passes its gates, then to the others",
        f"{good.get('state', 'was not rolled out')}"
        + (f" on {story.facts.served_110_from}" if story.facts.served_110_from else ""),
        holds=good.get("state") == "completed",
    )
    answered = {device: set(story.replays[device].answers.version) for device in DEVICES}
    others = [d for d in DEVICES if d != CANARY and "1.2.0" in answered[d]]
    rows = story.replays[CANARY].answers.version.count("1.2.0")
    ledger.line(
        f"1.2.0, signed but wrong, stops at {CANARY}; the others never see it",
        f"{bad.get('state', 'was not rolled out')} after {rows:,} flights at {CANARY}; "
        f"elsewhere: {', '.join(others) or 'never'}",
        holds=bad.get("state") == "rolled_back" and rows > 0 and not others,
    )
    serving = story.stage.serving()
    ledger.line(
        "in the end all devices serve 1.1.0",
        ", ".join(f"{d} {serving.get(d, '?')}" for d in DEVICES),
        holds=serving == dict.fromkeys(DEVICES, "1.1.0"),
    )


def _dashboard(story: Story, ledger: Ledger) -> None:
    pages = dashboard.opened(story.stage.url)
    failed = {path: status for path, status in pages.items() if status != HTTPStatus.OK}
    ledger.line(
        "every page of the dashboard opens, those of all open alerts among them",
        f"{len(pages):,} pages"
        + "".join(f"; {path} is {status}" for path, status in list(failed.items())[:3]),
        holds=not failed,
    )


def _doubled(story: Story, device: str, counts: dict[str, Any]) -> int:
    return max(0, int(counts[device]["rows"]) - len(story.replays[device].answers.score))


def _slot(status: dict[str, Any]) -> dict[str, Any]:
    return next(slot for slot in status["slots"] if slot["slot"] == SLOT)


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def still_up(stage: Stage) -> str:
    """Say where the dashboard is."""
    return f"The dashboard stays at {stage.url} until Ctrl-C; files are in {stage.work}"
