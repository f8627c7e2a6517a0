"""What an alarm of drift is about, in words: which part of a feature moved, and how far."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_MISSING = "missing"
_WORTH_SAYING = 0.02  # a notice, by `Thresholds.rate`


def describe(evidence: Mapping[str, Any]) -> str:
    """Return the evidence of a `Change` as a phrase: what speaks, its effect, and how surely.

    Distances are left out where there are none (no finite value came); missing values are told
    when they speak, or have changed by 2 % of the rows: in the baseline → now. How far the location
    and the scale moved is against the device's own beginning, which may be elsewhere.

    >>> describe({"what": "missing", "null_rate": 0.48, "null_shift": 0.28, "log_e": 7.94,
    ...           "threshold": 7.31})
    'missing values 20 % → 48 %; log e 7.9, alarm from 7.3'
    >>> describe({"what": "location", "shift": -0.4, "psi": 0.31, "w1_sd": 0.52, "log_e": 12.0,
    ...           "threshold": 7.31})
    'location −0.40 sd, PSI 0.31, W1/sd 0.52; log e 12.0, alarm from 7.3'
    """
    what, shift = evidence.get("what"), evidence.get("null_shift")
    parts = [_moved(what, evidence.get("shift"))] if what and what != _MISSING else []
    for name, key in (("PSI", "psi"), ("W1/sd", "w1_sd")):
        if evidence.get(key) is not None:
            parts.append(f"{name} {evidence[key]:.2f}")
    if shift is not None and (what == _MISSING or abs(shift) >= _WORTH_SAYING):
        rate = evidence["null_rate"]
        missing = f"missing values {_percent(rate - shift)} → {_percent(rate)}"
        parts.insert(0 if what == _MISSING else len(parts), missing)
    phrases = [", ".join(parts)] if parts else []
    if evidence.get("log_e") is not None and evidence.get("threshold") is not None:
        phrases.append(f"log e {evidence['log_e']:.1f}, alarm from {evidence['threshold']:.1f}")
    return "; ".join(phrases)


def _moved(what: str, by: float | None) -> str:
    if by is None or what not in {"location", "scale"}:
        return what
    if what == "scale":
        return f"scale × {math.exp(by):.2f}"
    return f"location {'−' if by < 0 else '+'}{abs(by):.2f} sd"


def _percent(share: float) -> str:
    return f"{100 * max(share, 0.0):.3g} %"
