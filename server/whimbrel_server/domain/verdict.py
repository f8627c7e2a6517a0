"""What an alert stands on: the rule, what it was given, its thresholds, and what it found.

A verdict is the evidence of an alert, and complete: with the windows that it names, its rule gives
the same figures again, to the last bit (`whimbrel_server.queries.replays`). So it may be doubted, and
checked, long after the alert. Rules are named ``<what>.<how>`` and have a version, which grows with
every change that gives other figures for the same windows: a verdict of an earlier version can be
read, but not be recomputed by this one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec

from whimbrel_core.profile.watching import rate
from whimbrel_server.domain.subjects import device_subject

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from whimbrel_core.profile.watching import alarms

Level = Literal["device", "cohort", "fleet"]

DEVICE_DRIFT = "drift.device"
QUALITY = "quality.realised"
DATA = "data.findings"
GROUP_DRIFT = "drift.group"
PEERS = "outlier.peers"
RATE = "rate.device"

RULES: dict[str, int] = {
    # The e-detector over one device's windows, with the effect against the signed baseline.
    DEVICE_DRIFT: 1,
    # What is wrong with the data of the newest windows in a row.
    DATA: 1,
    # Joined labels of the newest days against what the baseline promised.
    QUALITY: 1,
    # The devices' e-detectors added up, and e-BH over all of their streams.
    GROUP_DRIFT: 1,
    # A device against the rest of its peers, beyond how far those differ from each other.
    PEERS: 1,
    # Requests of one period against the device's own past, by the device itself.
    RATE: rate.VERSION,
}
"""Every rule of this server, and its version."""

# What is written out; of a long history the rest is named by its count and its beginning.
MAX_WINDOWS = 24


class Input(msgspec.Struct, frozen=True):
    """A window or period that a verdict stands on: its place in its subject's history, its rows.

    Args:
        start_ms: start of it.
        key: outbox key of a device's window (``epoch/seq``), or "" for a period of a group.
        end_ms: end of it.
        rows: predicted rows; for quality the labelled ones.
    """

    start_ms: int
    key: str
    end_ms: int
    rows: int


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """A judgement that anybody can make again from what is stored.

    Args:
        rule: name of the rule, one of `RULES`.
        version: of the rule.
        digest: bundle whose baseline was compared with.
        profile_id: of that baseline's layout.
        level: what ``subject`` is.
        subject: as the store names it: ``d:<device>``, ``c:<key>=<value>``, ``fleet``.
        feature: which one; "" for all or none.
        at_ms: event time of the newest input.
        inputs: the newest windows or periods, oldest first, `MAX_WINDOWS` at most.
        history: how many windows or periods count, those in ``inputs`` among them.
        first_ms: start of the oldest that counts.
        policy: everything that was set for the rule, as plain values.
        given: what else the rule was given, beside windows.
        thresholds: what each figure had to pass.
        figures: what was found.
    """

    rule: str
    version: int
    digest: str
    profile_id: str
    level: Level
    subject: str
    feature: str = ""
    at_ms: int
    inputs: tuple[Input, ...] = ()
    history: int = 0
    first_ms: int | None = None
    policy: dict[str, Any] = {}
    given: dict[str, Any] = {}
    thresholds: dict[str, float] = {}
    figures: dict[str, Any] = {}

    def evidence(self) -> dict[str, Any]:
        """Return the verdict as the evidence of an alert."""
        return _plain(self)


def reached(
    rule: str,
    *,
    digest: str,
    profile_id: str,
    subject: str,
    inputs: Sequence[Input],
    thresholds: Mapping[str, float],
    figures: Mapping[str, Any],
    feature: str = "",
    history: int | None = None,
    first_ms: int | None = None,
    policy: msgspec.Struct | Mapping[str, Any] | None = None,
    given: Mapping[str, Any] | None = None,
) -> Verdict:
    """Return a verdict of ``rule``, one of `RULES`, as it is now; the rest as in `Verdict`.

    ``inputs`` are given oldest first; `MAX_WINDOWS` of them are written out. ``history`` and
    ``first_ms`` are for when more windows count than ``inputs`` has.

    Raises:
        KeyError: no such rule.
        ValueError: there are no inputs.
    """
    if not inputs:
        raise ValueError("a verdict stands on a window at least")
    level: Level = "device" if subject.startswith("d:") else "fleet"
    return Verdict(
        rule=rule,
        version=RULES[rule],
        digest=digest,
        profile_id=profile_id,
        level="cohort" if subject.startswith("c:") else level,
        subject=subject,
        feature=feature,
        at_ms=inputs[-1].start_ms,
        inputs=tuple(inputs[-MAX_WINDOWS:]),
        history=len(inputs) if history is None else history,
        first_ms=inputs[0].start_ms if first_ms is None else first_ms,
        policy=_plain(policy if policy is not None else {}),
        given=_plain(given if given is not None else {}),
        thresholds=dict(thresholds),
        figures=_plain(figures),
    )


def read(evidence: Mapping[str, Any]) -> Verdict | None:
    """Return the verdict in an alert's evidence; None for an alert that is no judgement."""
    if "rule" not in evidence:
        return None
    return msgspec.convert(dict(evidence), Verdict)


def subjects_of(one: Verdict) -> tuple[str, ...]:
    """Return whose windows a verdict's drift is in: the drifting devices of a group, or itself."""
    if one.rule == PEERS:
        return (device_subject(str(one.figures["device"])),)
    drifting = one.figures.get("drifting")
    if one.level != "device" and isinstance(drifting, list) and drifting:
        return tuple(device_subject(str(device)) for device in drifting)
    return (one.subject,)


def thresholds_of(policy: alarms.Policy) -> dict[str, float]:
    """Return what evidence and effect of a device's feature have to pass."""
    limits = policy.thresholds
    return {
        "log_e": policy.detector.threshold,
        "psi_warn": limits.psi[1],
        "psi_severe": limits.psi[2],
        "w1_sd_warn": limits.w1_sd[1],
        "w1_sd_severe": limits.w1_sd[2],
        "share_warn": limits.rate[1],
        "share_severe": limits.rate[2],
        "windows": policy.confirm_windows,
    }


def figures_of(severity: str | None, evidence: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was found of a device's feature, the threshold apart."""
    found = {name: value for name, value in evidence.items() if name != "threshold"}
    return {"severity": severity, **found}


class Difference(msgspec.Struct, frozen=True):
    """A figure that a verdict has, and what recomputing it gave."""

    figure: str
    recorded: Any
    recomputed: Any


def differences(
    recorded: Mapping[str, Any], recomputed: Mapping[str, Any]
) -> tuple[Difference, ...]:
    """Return the figures that are not the same, to the last bit; those of only one side, too.

    >>> differences({"psi": 0.5, "rows": 3}, {"psi": 0.25, "rows": 3})
    (Difference(figure='psi', recorded=0.5, recomputed=0.25),)
    """
    a, b = _plain(recorded), _plain(recomputed)
    return tuple(
        Difference(name, a.get(name), b.get(name))
        for name in dict.fromkeys((*a, *b))
        if name not in a or name not in b or a[name] != b[name]
    )


def _plain(values: object) -> dict[str, Any]:
    """Return values as they come out of the store: a tuple is a list there, a NaN is a null."""
    found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(values))
    return found
