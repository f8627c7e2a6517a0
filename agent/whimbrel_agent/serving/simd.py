"""Keeps numpy from using instructions that are slower than what they replace. Import it before.

Counting a profile sorts columns, and numpy sorts with AVX-512 where it can. On AMD's Zen 4 the
instruction that this sort lives on (compress with a store to memory) is microcoded: it takes 2.4
times as long per row counted in batches as numpy's AVX2 sort on the same processor. numpy reads
the variable that says so once, when it is imported; a value that is set already is kept.
"""

from __future__ import annotations

import os

VARIABLE = "NPY_DISABLE_CPU_FEATURES"
# Names before numpy 2.4 and since; a name that a numpy does not know gives an ImportWarning, which
# Python ignores unless told otherwise.
_AVX512 = "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX512_SPR X86_V4"
_ZEN_3_AND_4 = "25"  # Zen 3 has no AVX-512


def slow_features(cpuinfo: str) -> str:
    r"""Return the features that numpy had better not use on the processor of ``cpuinfo``.

    >>> slow_features("vendor_id : AuthenticAMD\ncpu family : 25\nflags : avx2 avx512f")[:7]
    'AVX512F'
    >>> slow_features("vendor_id : GenuineIntel\ncpu family : 6\nflags : avx2 avx512f")
    ''
    """
    first: dict[str, str] = {}
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        first.setdefault(name.strip(), value.strip())
    slow = (
        first.get("vendor_id") == "AuthenticAMD"
        and first.get("cpu family") == _ZEN_3_AND_4
        and "avx512f" in first.get("flags", "").split()
    )
    return _AVX512 if slow else ""


def _apply() -> None:
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:  # noqa: PTH123
            features = slow_features(file.read(16_384))  # the first processor is enough
    except OSError:
        return
    if features:
        os.environ.setdefault(VARIABLE, features)


_apply()
