"""The command that the fleet server runs when drift asks for a new model.

It gets a CloudEvent on standard input (type ``dev.whimbrel.retraining.requested``), trains on all
flights from the first of January to the day before the alarm (the delays of that day may not be
known yet), packs the model and publishes it. Whether, when and where it goes out is decided by
people: this command rolls nothing out.
"""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from examples.flights.data import load
from examples.flights.release import BuildMachine
from examples.flights.train import train_into

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m examples.flights.retrain")
    parser.add_argument("--work", type=Path, required=True, help="folder of the demo")
    parser.add_argument("--version", required=True, help="version to publish")
    arguments = parser.parse_args(argv)
    event = json.load(sys.stdin)
    alarm = datetime.fromtimestamp(event["data"]["at_ms"] / 1000, tz=UTC).date()
    until = alarm - timedelta(days=1)
    machine = BuildMachine(arguments.work)
    recipe = train_into(machine.model_folder(arguments.version), load(), date(2013, 1, 1), until)
    print(f"trained until {until}; on the days held out: AUC {recipe['metrics']['auc']:.3f}")
    machine.release(arguments.version, print)
    return 0


if __name__ == "__main__":
    sys.exit(main())
