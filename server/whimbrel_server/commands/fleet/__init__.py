"""`whimbrel fleet`: what an operator does, over HTTP, from any machine."""

from __future__ import annotations

import click

from whimbrel_server.commands.fleet.alerts import acknowledge, alerts
from whimbrel_server.commands.fleet.devices import assign, devices, label
from whimbrel_server.commands.fleet.enrol import enrol
from whimbrel_server.commands.fleet.export import export
from whimbrel_server.commands.fleet.models import drift, models
from whimbrel_server.commands.fleet.records import audit, events, status
from whimbrel_server.commands.fleet.rollout import rollout
from whimbrel_server.commands.fleet.slices import slices
from whimbrel_server.commands.fleet.verdicts import explain, replay
from whimbrel_server.commands.fleet.words import words


@click.group(epilog="Example: whimbrel fleet status --server http://fleet.example:8500")
def fleet() -> None:
    """See and steer the fleet: devices, drift, alerts, rollouts."""


for _command in (
    status,
    devices,
    enrol,
    label,
    assign,
    models,
    drift,
    export,
    words,
    slices,
    alerts,
    explain,
    replay,
    acknowledge,
    rollout,
    events,
    audit,
):
    fleet.add_command(_command)
