"""The verdict of gates for people: a table, what failed first, with its sentence below."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Iterator

    from whimbrel_packager.gates import Outcome, Verdict

_WIDE = 30
_HELD, _FAILED, _UNJUDGED = "held", "FAILED", "not judged"


def brief(verdict: Verdict) -> list[str]:
    """Return what a person should know beside a bundle that was made: what was not judged."""
    unjudged = [outcome for outcome in verdict.gates if not outcome.judged]
    return [
        _title(verdict),
        *(line for outcome in unjudged for line in _row(outcome, len(outcome.name))),
    ]


def lines(verdict: Verdict) -> list[str]:
    """Return a table of all gates: what failed first."""
    shown = sorted(verdict.joined, key=lambda outcome: outcome.held)
    wide = max([_WIDE, *(len(o.name) for o in shown)])
    return [_title(verdict), *(line for outcome in shown for line in _row(outcome, wide))]


def _title(verdict: Verdict) -> str:
    count = len(verdict.joined)
    failed = len(verdict.failed)
    title = (
        f"{_gates(count)} {'holds' if count == 1 else 'hold'}"
        if verdict.held
        else f"{failed} of {_gates(count)} {'does' if failed == 1 else 'do'} not hold"
    )
    if verdict.unjudged:
        title += f", {len(verdict.unjudged)} could not be judged"
    return click.style(title, bold=True, fg=None if verdict.held else "red")


def _gates(count: int) -> str:
    return "1 gate" if count == 1 else f"{count} gates"


def _row(outcome: Outcome, wide: int) -> Iterator[str]:
    from whimbrel_packager.gates.outcome import number

    state = _FAILED if not outcome.held else _HELD if outcome.judged else _UNJUDGED
    figure = "" if outcome.measured is None else number(outcome.measured)
    limit = (
        f"{outcome.rule} {number(outcome.threshold)} {_unit(outcome)}"
        if outcome.rule and outcome.threshold is not None
        else ""
    )
    between = (
        "" if outcome.interval is None
        else f"{number(outcome.interval[0], 3)} to {number(outcome.interval[1], 3)}"
    )  # fmt: skip
    if state == _HELD and not outcome.rule:
        yield f"  {_state(state)}  {outcome.name:<{wide}}  {outcome.message}"
        return
    yield f"  {_state(state)}  {outcome.name:<{wide}}  {figure:>9}  {limit:<20} {between}".rstrip()
    if not outcome.held or not outcome.judged:
        yield f"              {outcome.message}"


def _unit(outcome: Outcome) -> str:
    return "" if outcome.unit in {"", "share"} else outcome.unit


def _state(state: str) -> str:
    colour = {_HELD: "green", _FAILED: "red", _UNJUDGED: "yellow"}[state]
    return click.style(f"{state:<10}", fg=colour)
