"""The demo: a year of real flights through a packager, three devices and a fleet server.

::

    make demo                      # runs it, then leaves the dashboard up until Ctrl-C
    make demo ARGS=--once          # ends by itself: 0 only if everything is as promised
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from examples.flights.narrator import Narrator
from examples.flights.stage import Stage
from whimbrel_core.cli import print_error
from whimbrel_core.errors import WhimbrelError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="make demo",
        description="Package, sign, deploy, serve, watch, retrain and roll out, on real flights.",
        epilog="Example: make demo ARGS='--once --port 8000'",
    )
    parser.add_argument("--once", action="store_true", help="end after the closing table")
    parser.add_argument("--port", type=int, help="port of the dashboard (default: a free one)")
    parser.add_argument(
        "--work", type=Path, default=Path("build/demo"), help="folder for all files (made anew)"
    )
    arguments = parser.parse_args(argv)
    work = arguments.work.resolve()
    marker = work / ".whimbrel-demo"
    if work.exists():
        if any(work.iterdir()) and not marker.exists():
            parser.error(f"{work} holds something else; name a new folder with --work")
        shutil.rmtree(work)
    work.mkdir(parents=True)
    marker.touch()

    _end_on_signals()
    narrator = Narrator()
    stage = Stage(work, narrator, http_port=arguments.port)
    try:
        kept = _play(stage, narrator)
        stays = not arguments.once and sys.stdout.isatty()
        if stays:
            from examples.flights.closing import still_up

            narrator.say(still_up(stage), style="bold")
            with contextlib.suppress(KeyboardInterrupt):
                while True:
                    time.sleep(3600)
    except WhimbrelError as error:
        narrator.end_progress()
        print_error(error, as_json=False)
        print(f"what every process said is in {work / 'logs'}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        narrator.end_progress()
        print("interrupted", file=sys.stderr)
        return 130
    else:
        return 0 if kept else 1
    finally:
        stage.close()


def _end_on_signals() -> None:
    """End as on Ctrl-C when asked to, or when the terminal is closed: nothing is left running."""
    endings = (signal.SIGTERM, signal.SIGHUP)

    def stop(_signal: int, _frame: FrameType | None) -> NoReturn:
        for ending in endings:  # a second one is not to interrupt the tidying up
            signal.signal(ending, signal.SIG_IGN)
        raise KeyboardInterrupt

    for ending in endings:
        signal.signal(ending, stop)


def _play(stage: Stage, narrator: Narrator) -> bool:
    # Imported late: pandas and scikit-learn take a second, and --help should not.
    from examples.flights.closing import close
    from examples.flights.story import Story

    story = Story(stage, narrator)
    story.build()
    story.open()
    story.live()
    story.settle()
    narrator.chapter("Closing table")
    kept = close(story)
    narrator.say(
        f"{'everything is as promised' if kept else 'not everything is as promised'}, "
        f"after {narrator.elapsed_s:.0f} s",
        style="good" if kept else "bad",
    )
    return kept


if __name__ == "__main__":
    sys.exit(main())
