"""`whimbrel fleet rollout`: start, list, show, pause, resume, abort."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from whimbrel_core.errors import InputError, RefusedError, UsageError
from whimbrel_core.wire.assignment import Probation
from whimbrel_server.commands.fleet.connection import connected, pairs
from whimbrel_server.commands.fleet.printing import plain, print_json, print_table, styled
from whimbrel_server.domain.rollout import ENDED
from whimbrel_server.views.rollouts import Gates, RolloutSpec, RolloutView, Wave

if TYPE_CHECKING:
    from collections.abc import Sequence

    from whimbrel_server.client import FleetClient

_PERCENT = re.compile(r"(\d{1,3}(?:\.\d+)?)%")
_STATES = ("ok", "notice", "warn", "severe")
_POLL_S = 1.0
_GATES, _PROBATION = Gates(), Probation()
_DAYS = f"{RolloutSpec(slot='', model='', version='').deadline_s / 86_400:g} days"


@click.group(
    epilog="Example: whimbrel fleet rollout start flights flights 1.1.0 --wave lga --wave rest"
)
def rollout() -> None:
    """Move a version through waves of devices, behind gates."""


def parse_wave(text: str) -> Wave:
    """Return one ``--wave``: ``lga,jfk`` · ``ring=canary`` · ``25%`` · ``ring=stable:50%`` · ``rest``.

    Raises:
        UsageError: none of these.
    """
    if text == "rest":
        return Wave()
    what, _, tail = text.rpartition(":") if ":" in text else (text, "", "")
    if not tail and _PERCENT.fullmatch(what):
        what, tail = "", what
    percent = None
    if tail:
        match = _PERCENT.fullmatch(tail)
        if match is None or not 0 < float(match[1]) <= 100:  # noqa: PLR2004 - per cent
            raise UsageError(f"{text!r}: {tail!r} is not a share", hint="write it as 25%")
        percent = float(match[1])
    parts = [p.strip() for p in what.split(",") if p.strip()]
    if any("=" in p for p in parts):
        return Wave(labels=pairs(parts, "label"), percent=percent)
    if parts and percent is not None:
        raise UsageError(
            f"{text!r}: named devices have no share",
            hint="use labels with a share: ring=stable:50%",
        )
    if not parts and percent is None:
        raise UsageError(f"{text!r} is not a wave", hint="e.g. lga,jfk · ring=canary · 25% · rest")
    return Wave(devices=tuple(parts), percent=percent)


@rollout.command(
    epilog="Example: whimbrel fleet rollout start flights flights 1.1.0 --wave lga --wave rest "
    "--labels 100 --max-auc-drop 0.02 --wait"
)
@click.argument("slot", required=False)
@click.argument("model", required=False)
@click.argument("version", required=False)
@click.option(
    "--spec",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The whole rollout as JSON, instead of everything below.",
)
@click.option(
    "--wave",
    "waves",
    multiple=True,
    help="In order: lga,jfk · ring=canary · 25% · ring=stable:50% · rest.",
)
@click.option(
    "--min-rows", type=int, help=f"Rows served, per device.  [default: {_GATES.min_rows}]"
)
@click.option(
    "--min-windows",
    type=int,
    help=f"Windows received, per device.  [default: {_GATES.min_windows}]",
)
@click.option(
    "--max-error-rate",
    type=float,
    help=f"Share of failed requests.  [default: {_GATES.max_error_rate}]",
)
@click.option("--max-latency-ratio", type=float, help="Median latency against the version before.")
@click.option(
    "--max-output-state", type=click.Choice(_STATES), help="Worst drift allowed on outputs."
)
@click.option("--min-auc", type=float, help="Realised AUC of the wave.")
@click.option(
    "--max-auc-drop", type=float, help="AUC below the version before, on the same devices."
)
@click.option("--labels", type=int, help="Joined labels that quality gates wait for.")
@click.option("--soak-windows", type=int, help="Windows per device beyond --min-windows.")
@click.option(
    "--probation-rows",
    type=int,
    help=f"Rows before a device itself commits.  [default: {_PROBATION.rows}]",
)
@click.option(
    "--probation-labels",
    type=int,
    help=f"Labels before a device itself commits.  [default: {_PROBATION.labels}]",
)
@click.option("--probation-min-auc", type=float, help="AUC below which a device itself goes back.")
@click.option(
    "--deadline-hours", type=float, help=f"Silence for so long is failure.  [default: {_DAYS}]"
)
@click.option("--wait", is_flag=True, help="Wait for the end; exit 5 when it did not complete.")
@connected
def start(
    client: FleetClient,
    *,
    slot: str | None,
    model: str | None,
    version: str | None,
    spec: Path | None,
    waves: tuple[str, ...],
    wait: bool,
    as_json: bool,
    **numbers: Any,  # noqa: ANN401 - click's options, named as the structs' fields
) -> None:
    """Start moving VERSION of MODEL into SLOT. No --wave: every enrolled device at once."""
    given = {k: n for k, n in numbers.items() if n is not None}
    if spec is not None:
        if slot or waves or given:
            raise UsageError("--spec says everything; give no other argument beside it")
        wanted = _read(spec)
    elif slot and model and version:
        wanted = make_spec(slot, model, version, waves, given)
    else:
        raise UsageError("SLOT, MODEL and VERSION are needed", hint="or a file with --spec")
    started = client.start_rollout(wanted)
    if not wait:
        _tell(started, as_json=as_json)
        return
    if not as_json:
        _tell(started, as_json=False)
    ended = _wait(client, started)
    _tell(ended, as_json=as_json)
    if ended.state != "completed":
        raise RefusedError(
            f"rollout {ended.id} is {ended.state.replace('_', ' ')}: {ended.reason or 'no reason given'}",
            hint=f"see 'whimbrel fleet rollout show {ended.id}'",
            code="refused.rollout",
        )


def make_spec(
    slot: str, model: str, version: str, waves: Sequence[str], given: dict[str, Any]
) -> RolloutSpec:
    """Return the specification that options describe; what is not given keeps its default."""
    probation = {
        k.removeprefix("probation_"): given[k] for k in given if k.startswith("probation_")
    }
    gates = {k: n for k, n in given.items() if k in Gates.__struct_fields__}
    made = RolloutSpec(
        slot=slot,
        model=model,
        version=version,
        waves=tuple(parse_wave(w) for w in waves),
        gates=Gates(**gates),
        probation=Probation(**probation),
    )
    if "deadline_hours" in given:
        made = msgspec.structs.replace(made, deadline_s=given["deadline_hours"] * 3600)
    return made


def _read(path: Path) -> RolloutSpec:
    try:
        return msgspec.json.decode(path.read_bytes(), type=RolloutSpec)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
    except msgspec.DecodeError as error:
        raise InputError(
            f"{path} is not a rollout: {error}", hint="see POST /api/v1/rollouts"
        ) from error


def _wait(client: FleetClient, started: RolloutView) -> RolloutView:
    current = started
    while current.state not in ENDED:
        time.sleep(_POLL_S)
        current = client.rollout(current.id)
    return current


@rollout.command("list", epilog="Example: whimbrel fleet rollout list")
@connected
def list_rollouts(client: FleetClient, as_json: bool) -> None:
    """List rollouts, newest first."""
    from whimbrel_server.web.written import moment

    found = client.rollouts()
    if as_json:
        print_json(found)
        return
    if not found:
        click.echo("no rollout yet; see 'whimbrel fleet rollout start --help'")
        return
    rows = [
        (
            str(r.id),
            plain(f"{r.model} {r.version}"),
            plain(r.slot),
            styled(r.state),
            f"{r.wave + 1} / {len(r.waves)}",
            moment(r.created_ms),
            plain(r.reason),
        )
        for r in found
    ]
    print_table(
        ("id", "version", "slot", "state", "wave", "started", "reason"), rows, numbers=("id",)
    )


@rollout.command(epilog="Example: whimbrel fleet rollout show 3")
@click.argument("number", type=click.IntRange(1))
@connected
def show(client: FleetClient, number: int, as_json: bool) -> None:
    """Show one rollout with its waves and gates."""
    _tell(client.rollout(number), as_json=as_json)


def _tell(view: RolloutView, *, as_json: bool) -> None:
    if as_json:
        print_json(view)
        return
    from rich.console import Console

    reason = f": {plain(view.reason)}" if view.reason else ""
    Console(highlight=False, soft_wrap=True).print(
        f"rollout {view.id}: {plain(view.model)} {view.version} is {styled(view.state)}{reason}"
    )
    rows = []
    for wave in view.waves:
        names = ", ".join(wave.devices[:6]) + (" …" if len(wave.devices) > 6 else "")  # noqa: PLR2004 - a line's worth
        rows.append((str(wave.index + 1), styled(wave.state), plain(names), ""))
        rows.extend(("", styled(g.state), plain(g.name), plain(g.sentence)) for g in wave.gates)
    print_table(("wave", "state", "devices and gates", ""), rows, numbers=("wave",))


def _move(client: FleetClient, number: int, verb: str, *, as_json: bool) -> None:
    _tell(client.move_rollout(number, verb), as_json=as_json)


@rollout.command(epilog="Example: whimbrel fleet rollout pause 3")
@click.argument("number", type=click.IntRange(1))
@connected
def pause(client: FleetClient, number: int, as_json: bool) -> None:
    """Hold a rollout where it is; devices keep what they serve."""
    _move(client, number, "pause", as_json=as_json)


@rollout.command(epilog="Example: whimbrel fleet rollout resume 3")
@click.argument("number", type=click.IntRange(1))
@connected
def resume(client: FleetClient, number: int, as_json: bool) -> None:
    """Let a paused rollout go on."""
    _move(client, number, "resume", as_json=as_json)


@rollout.command(epilog="Example: whimbrel fleet rollout abort 3")
@click.argument("number", type=click.IntRange(1))
@connected
def abort(client: FleetClient, number: int, as_json: bool) -> None:
    """Stop a rollout and give every moved device back what it had."""
    _move(client, number, "abort", as_json=as_json)
