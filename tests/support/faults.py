"""Child processes that go wrong for real: ``python -m tests.support.faults``.

The request on standard input is a JSON string that names the fault.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import time

from whimbrel_agent.update import child
from whimbrel_agent.update.messages import Answer


def answer(data: bytes) -> Answer:
    """Do what is asked for, which is wrong."""
    fault = json.loads(data)["path"]
    if fault == "segfault":
        ctypes.string_at(0)
    elif fault == "hang":
        time.sleep(600)
    elif fault == "nonsense":
        sys.stdout.write("hello")
    elif fault == "exit":
        sys.stderr.write("it went wrong\n")
        sys.stderr.flush()
        os._exit(7)
    elif fault == "memory":
        raise MemoryError
    return Answer()


if __name__ == "__main__":
    child.serve(answer)
