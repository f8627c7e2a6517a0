"""What devices and the server told, as lines of a log: one sentence, a tone, a time.

The sentences follow the kinds that an agent sends (`drift`, `rate`, `update.*`, `worker.down`,
`window_damaged`), what the server finds to be another (`device.changed`), and the actions that it
notes of a rollout. A newer agent may send others: those are written as their name and their fields, with times and numbers made readable.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec

from whimbrel_server.domain.devices import CHANGED
from whimbrel_server.domain.wording.phrases import names
from whimbrel_server.store import rates
from whimbrel_server.web import scale, written

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from whimbrel_server.views.audit import AuditView
    from whimbrel_server.views.devices import EventView

_TIME = "_ms"
_NOT_KNOWN = "the version asked for"


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a log. ``who`` is a device's name or, for an audit entry, an actor's."""

    at_ms: int
    text: str
    tone: scale.Tone = "none"
    device: str = ""
    actor: str = ""
    slot: str = ""
    digest: str = ""
    code: str = ""


def of_events(events: Iterable[EventView]) -> tuple[Line, ...]:
    """Return events as lines, in their order; features that moved alike at once are one line."""
    lines: dict[object, tuple[EventView, list[str]]] = {}
    for number, event in enumerate(events):
        detail = event.detail
        feature = detail.get("feature", "") if event.kind == "drift" else ""
        moved = (detail.get("before"), detail.get("now"))
        key = (event.at_ms, event.device, event.slot, event.digest, *moved) if feature else number
        lines.setdefault(key, (event, []))[1].append(feature)
    return tuple(_line(event, features) for event, features in lines.values())


def _line(event: EventView, features: list[str]) -> Line:
    detail = event.detail
    if len(features) > 1:
        # What several moved by differs; each has its own number on the page of the model.
        told = {key: detail[key] for key in ("before", "now") if key in detail}
        text = _drift(told | {"feature": names(sorted(features))}, several=True)
    else:
        text = sentence(event.kind, detail)
    return Line(
        at_ms=event.at_ms,
        text=text,
        tone=_tone(event.kind, detail),
        device=event.device,
        slot=event.slot,
        digest=event.digest,
        code=detail.get("code", ""),
    )


def of_rollout(audit: Iterable[AuditView]) -> tuple[Line, ...]:
    """Return a rollout's audit entries as lines, in their order."""
    return tuple(
        Line(
            at_ms=entry.at_ms,
            text=_moved(entry.action.removeprefix("rollout."), entry.detail),
            tone=scale.tone(str(entry.detail.get("state") or "running")),
            actor=entry.actor,
        )
        for entry in audit
    )


def sentence(kind: str, detail: Mapping[str, str]) -> str:
    """Return what happened as one sentence.

    >>> sentence("drift", {"feature": "hour", "before": "severe", "now": "ok", "psi": "0.0000"})
    'hour went from severe to ok (PSI 0.00)'
    """
    family, _, event = kind.partition(".")
    try:
        if kind == "drift" and detail.get("feature"):
            return _drift(detail)
        if kind == rates.KIND and (rate := rates.read(detail)) is not None:
            return _rate(rate)
        if kind == CHANGED and detail:
            said = "; ".join(f"{what} {change}" for what, change in detail.items())
            return said[0].upper() + said[1:]
        if family == "update" and event in _UPDATES:
            return _update(event, detail)
        if kind == "worker.down":
            return f"The serving process ended unasked ({detail['ending']}); it is started again"
        if kind == "window_damaged":
            return (
                f"A window could not be recovered: {_end(detail['message'])}. "
                f"Its file was kept as damaged/{detail['file']}"
            )
    except KeyError:
        pass  # another version's fields: the plain line loses none of them
    return _plain(kind, detail)


def _rate(told: rates.Told) -> str:
    if told.severity is None:
        return f"Asked as much as usual again: {told.requests:,.0f} requests in a window"
    said = rates.sentence(told)
    return said[0].upper() + said[1:]


def _drift(detail: Mapping[str, str], *, several: bool = False) -> str:
    now = scale.word(detail.get("now") or detail["state"])
    before = detail.get("before", "")
    feature = detail["feature"]
    if before in {"", "too_few"}:
        text = (
            f"{feature} {'are' if several else 'is'} {now}"
            if before == ""
            else f"{feature} {'are' if several else 'is'} judged for the first time: {now}"
        )
    else:
        text = f"{feature} went from {scale.word(before)} to {now}"
    effects = [
        f"{name} {value:.2f}"
        for name, value in (
            ("PSI", _number(detail.get("psi"))),
            ("W1", _number(detail.get("w1_sd"))),
        )
        if value is not None
    ]
    # W1 says little beside a PSI; it is what there is for a feature that has none.
    # The window is the line's time: an event of drift is dated to the end of its window.
    return text + (f" ({effects[0]})" if effects else "")


_UPDATES = {
    "assigned": "Asked for a new version; fetching it",
    "withdrawn": "Asked back to {what}",
    "removed": "The slot was taken away; {what} ends",
    "refused": "Did not take {what}: {reason}",
    "damaged": "The stored file of {what} is damaged ({reason}); going back a version",
    "unusable": "{what} cannot be used here: {reason}",
    "fetched": "Fetched and verified it; trying it in a process of its own",
    "fetch_refused": "Could not fetch {what}: {reason}",
    "probed": "{what} passed its probe; switching to it",
    "probe_refused": "{what} failed its probe: {reason}",
    "switched": "Serves {what}, on probation",
    "switched_committed": "Serves {what}",
    "switch_failed": "Could not switch to {what}: {reason}",
    "passed": "{what} passed its probation and stays",
    "failed": "{what} failed its probation: {reason}; going back",
    "expired": "The probation of {what} ended without enough evidence: {reason}; going back",
    "rolled_back": "Back on {what}",
    "emptied": "Serves nothing in this slot any more",
    "retry": "Could not go on yet: {reason}; it is tried again",
}
_UPDATE_TONES: dict[str, scale.Tone] = {
    **dict.fromkeys(("assigned", "withdrawn", "fetched", "probed", "switched"), "busy"),
    **dict.fromkeys(("switched_committed", "passed"), "ok"),
    **dict.fromkeys(("retry", "expired", "rolled_back", "removed"), "warn"),
    **dict.fromkeys(
        (
            "refused",
            "damaged",
            "unusable",
            "fetch_refused",
            "probe_refused",
            "switch_failed",
            "failed",
        ),
        "severe",
    ),
}


def _update(event: str, detail: Mapping[str, str]) -> str:
    what = f"{detail.get('name', '')} {detail.get('version', '')}".strip() or _NOT_KNOWN
    reason = _end(detail.get("reason", "")) or "no reason was given"
    text = _UPDATES[event].format(what=what, reason=reason)
    return text[0].upper() + text[1:] if what == _NOT_KNOWN else text


def _tone(kind: str, detail: Mapping[str, str]) -> scale.Tone:
    family, _, event = kind.partition(".")
    if family == "update":
        return _UPDATE_TONES.get(event, "none")
    if kind in {"worker.down", "window_damaged"}:
        return "warn"
    return scale.tone(detail.get("now") or detail.get("state", ""))


def _moved(event: str, detail: Mapping[str, Any]) -> str:
    """Return what happened to a rollout. Waves are counted from 1 for people."""
    wave = detail.get("wave")
    number = wave + 1 if isinstance(wave, int) else 0
    reason = _end(str(detail.get("reason", "")))
    because = f": {reason}" if reason else ""
    waves = detail.get("waves")
    if event == "start" and isinstance(waves, list):
        who = "; then ".join(", ".join(map(str, members)) or "nobody" for members in waves)
        return f"Started {detail.get('model', '')} {detail.get('version', '')}: first {who}"
    texts = {
        # The wave that is noted is the one that begins.
        "wave_passed": f"Wave {number - 1} passed its gates; wave {number} begins",
        "last_wave_passed": f"Wave {number} passed its gates; the rollout is complete",
        "gate_failed": f"Wave {number} was stopped{because}",
        "overdue": f"Not every device came back in time{because}",
        "restored": "Every device of it is back on what it had",
        "pause": "Paused",
        "resume": "Resumed",
        "abort": "Aborted; its devices go back to what they had",
    }
    return texts.get(event) or _plain(event, {k: str(v) for k, v in detail.items() if v != ""})


def _plain(kind: str, detail: Mapping[str, str]) -> str:
    """Return any kind as its name and fields, times and numbers readable."""
    name = kind.replace(".", " ").replace("_", " ").strip() or "event"
    fields = ", ".join(_field(key, str(text)) for key, text in sorted(detail.items()) if text != "")
    return (name[0].upper() + name[1:]) + (f": {fields}" if fields else "")


def _field(key: str, text: str) -> str:
    value = _number(text)
    if key.endswith(_TIME) and value is not None and text.lstrip("-").isdigit():
        return f"{key.removesuffix(_TIME).replace('_', ' ')} {written.moment(int(text))}"
    if value is not None and ("." in text or "e" in text.lower()):
        text = written.stat(value)
    elif value is not None and text.lstrip("-").isdigit():
        text = written.count(value)
    return f"{key.replace('_', ' ')} {scale.WORD.get(text, text)}"


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _end(text: str) -> str:
    return text.strip().rstrip(".")
