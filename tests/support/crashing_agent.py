"""An agent that kills itself with -9 at an effect boundary of its updates.

``python -m tests.support.crashing_agent CONFIG WHERE LOG``: appends each boundary to LOG, and dies at
number WHERE (from 0; -1 never), or at the first boundary that is called so ("fetch before").
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from whimbrel_agent import config
from whimbrel_agent.control.app import Application


def main() -> None:
    path, where, log = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    count = 0

    def observe(effect: str, when: str) -> None:
        nonlocal count
        with log.open("a") as file:
            file.write(f"{effect} {when}\n")
        if where in {str(count), f"{effect} {when}"}:
            os.kill(os.getpid(), signal.SIGKILL)
        count += 1

    async def run() -> None:
        await Application(config.load(path, {}), observe=observe).run()

    asyncio.run(run())


if __name__ == "__main__":
    main()
