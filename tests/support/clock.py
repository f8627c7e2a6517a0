"""Another wall clock for programs that a test starts: the C library's answer, moved.

A small shared object stands before the C library (`LD_PRELOAD`), so that a whole agent, with all
its processes, believes in another year. Monotonic clocks are as they were.
"""

from __future__ import annotations

import os
import subprocess
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

YEAR_1970 = 86_400.0
YEAR_2106 = 4_291_747_200.0

_SOURCE = r"""
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long moved(void) {
    const char *by = getenv("MOVE_CLOCK_S");
    return by ? atol(by) : 0;
}

int clock_gettime(clockid_t id, struct timespec *now) {
    int failed = syscall(SYS_clock_gettime, id, now);
    if (!failed && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) now->tv_sec += moved();
    return failed;
}

time_t time(time_t *out) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}

int gettimeofday(struct timeval *out, void *zone) {
    struct timespec now;
    (void) zone;
    clock_gettime(CLOCK_REALTIME, &now);
    out->tv_sec = now.tv_sec;
    out->tv_usec = now.tv_nsec / 1000;
    return 0;
}
"""


def build(folder: Path) -> Path:
    """Compile the shared object."""
    source, made = folder / "clock.c", folder / "clock.so"
    source.write_text(_SOURCE)
    command = ["cc", "-O1", "-shared", "-fPIC", "-o", str(made), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    return made


def environment(library: Path, at_s: float) -> dict[str, str]:
    """Return what makes a program believe that it is ``at_s`` seconds after 1970, now."""
    before = os.environ.get("LD_PRELOAD", "")
    return {
        "LD_PRELOAD": f"{library} {before}".strip(),
        "MOVE_CLOCK_S": str(int(at_s - time.time())),
    }
