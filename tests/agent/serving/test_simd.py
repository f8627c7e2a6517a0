"""A worker keeps numpy from instructions that are slow on its processor, and says so in time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from whimbrel_agent.serving.simd import VARIABLE, slow_features

ZEN_4 = "processor : 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 25\nflags\t\t: fpu avx2 avx512f\n"


@pytest.mark.parametrize(
    "cpuinfo",
    [
        "",
        "Processor\t: AArch64 Processor rev 4\n",
        ZEN_4.replace("AuthenticAMD", "GenuineIntel"),
        ZEN_4.replace(" 25", " 26"),
        ZEN_4.replace(" avx512f", ""),
        "no colon at all\n\n: :\n",
    ],
)
def test_other_processors_are_left_alone(cpuinfo: str) -> None:
    assert slow_features(cpuinfo) == ""


def test_avx512_is_switched_off_where_its_sort_is_slow() -> None:
    assert {"AVX512_SKX", "AVX512_ICL", "X86_V4"} <= set(slow_features(ZEN_4).split())


@pytest.mark.parametrize("given", ["", "AVX512_SPR"])
def test_numpy_finds_the_choice_when_the_worker_imports_it(given: str) -> None:
    cpuinfo = Path("/proc/cpuinfo")
    expected = given or (
        slow_features(cpuinfo.read_text("ascii", "replace")) if cpuinfo.exists() else ""
    )
    script = (
        "import os, sys; import whimbrel_agent.serving.simd as simd; assert 'numpy' not in sys.modules;"
        "import whimbrel_agent.serving.worker; print(os.environ.get(simd.VARIABLE, ''))"
    )
    env = {name: value for name, value in os.environ.items() if name != VARIABLE}
    if given:
        env[VARIABLE] = given
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", script], env=env, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert done.stdout.strip() == expected
