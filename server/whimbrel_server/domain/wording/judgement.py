"""What a verdict found, by what evidence and with which effect; by which rule, and on what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from whimbrel_core.drawing.written import count, moment, percent, stat
from whimbrel_server.domain import promises, verdict
from whimbrel_server.domain.wording.phrases import names, sentence

if TYPE_CHECKING:
    from collections.abc import Mapping

    from whimbrel_core.profile.counts import FeatureCounts
    from whimbrel_core.profile.feature import Feature
    from whimbrel_server.domain.verdict import Verdict

_LISTED = 3  # of a feature's values, those that moved furthest
_SHARE = 0.005  # of a share, half a per cent is not worth a word
_SPELLED = 8
_LOOK = {
    "missing": "Look at what fills it: a sensor, a join, a client that leaves it out.",
    "infinite": "Look at what computes it: a division, a unit, an overflow.",
    "out_of_range": "Look at its unit and its sensor; a model is not proven out there.",
    "unknown": "Words or values that the model never saw: see 'whimbrel fleet words'.",
    "constant": "A value that never changes is a sensor that is stuck, or a default that was put in.",
    "stuck": "A value that seldom changes is a sensor that is stuck, or is read too seldom.",
    "duplicates": "The same rows again and again: a client that repeats itself, or a frozen source.",
    "mistyped": "The application sends what the model does not take: compare it with the model's inputs.",
}


def found(one: Verdict, message: str, subject: str) -> list[str]:
    """Return what a verdict found, by what evidence and with which effect."""
    if one.rule == verdict.DEVICE_DRIFT:
        return _drifted(one, subject)
    if one.rule == verdict.QUALITY:
        return _broken(one, message)
    if one.rule == verdict.DATA:
        return _wrong(one, message)
    if one.rule == verdict.GROUP_DRIFT:
        return _together(one, message)
    if one.rule == verdict.PEERS:
        return _unlike(one, message)
    if one.rule == verdict.RATE:
        return _asked(one, message)
    return [sentence(message), *_listed(one)]


def moved(feature: Feature, then: FeatureCounts, now: FeatureCounts) -> str:
    """Return how a feature's values are now, beside the reference's; "" where none are."""
    if not then.finite or not now.finite:
        return ""
    if feature.kind == "numeric":
        unit = f" {feature.unit}" if feature.unit else ""
        return (
            f"Its mean was {_short(then.mean(feature))}{unit} and is {_short(now.mean(feature))}{unit} "
            f"since; its standard deviation was {_short(then.sd(feature))} and is "
            f"{_short(now.sd(feature))}."
        )
    shares = [
        (was / then.finite, is_ / now.finite, name)
        for was, is_, name in zip(then.cells, now.cells, feature.cell_names(), strict=True)
    ]
    shares.sort(key=lambda one: -abs(one[1] - one[0]))
    listed = "; ".join(
        f"{name} {percent(was)} → {percent(is_)}"
        for was, is_, name in shares[:_LISTED]
        if abs(is_ - was) >= _SHARE
    )
    return f"How often its values came, and come since: {listed}." if listed else ""


def judged(one: Verdict, alert: int) -> list[str]:
    """Return by which rule, on what, and how to check it."""
    last = one.inputs[-1]
    by_window = one.level == "device" and one.rule in {verdict.DEVICE_DRIFT, verdict.DATA}
    what = "window" if by_window else "period"
    against = f"the baseline of bundle {one.digest[:12]}"
    if one.rule == verdict.RATE:
        against = "what these taught of the slot's usual requests"
    span = f"{count(one.history)} {what}{'' if one.history == 1 else 's'}"
    return [
        (
            f"Rule {one.rule}, version {one.version}, over {span} from {moment(one.first_ms)} to "
            f"{moment(last.end_ms)}, against {against}."
        ),
        f"To have it worked out again from what is stored: whimbrel fleet replay {alert}.",
    ]


def _drifted(one: Verdict, subject: str) -> list[str]:
    figures, limits = one.figures, one.thresholds
    sentences = [f"{one.feature} has drifted on {subject}: {_what(figures)}."]
    effects = [
        f"{name} {stat(figures[key])} ({_reached(figures[key], limits, key)})"
        for name, key in (("PSI", "psi"), ("W1", "w1_sd"))
        if figures.get(key) is not None
    ]
    if effects:
        sentences.append(f"Effect, against the signed baseline: {', '.join(effects)}.")
    if figures.get("log_e") is not None:
        due = f"{limits['log_e']:.1f}"
        sentences.append(
            f"Evidence, against the device's own beginning: log e {figures['log_e']:.1f}, where {due} "
            f"is due, in {limits['windows']:g} windows in a row."
        )
    budget = one.policy.get("detector", {})
    if budget.get("streams") and budget.get("arl_windows"):
        sentences.append(
            f"That is as strict as one false alarm in {count(budget['arl_windows'])} windows over the "
            f"whole fleet ({count(budget['streams'])} times a feature of a device)."
        )
    return sentences


def _what(figures: Mapping[str, Any]) -> str:
    what = figures.get("what") or ""
    if what == "location":
        return "its values have moved up or down"
    if what == "scale":
        return "its values are spread wider or narrower"
    if what == "missing":
        before = max(figures["null_rate"] - figures["null_shift"], 0.0)
        return f"values are missing in {percent(figures['null_rate'])} of the rows, where {percent(before)} was usual"
    if what.startswith("share of "):
        return f"the {what} has changed"
    return f"{what} has changed" if what else "it has changed"


def _reached(value: float, limits: Mapping[str, float], key: str) -> str:
    severe, warn = limits[f"{key}_severe"], limits[f"{key}_warn"]
    if value >= severe:
        return f"severe from {severe:g}"
    return f"warn from {warn:g}" if value >= warn else f"below {warn:g}, a warning's"


def _broken(one: Verdict, message: str) -> list[str]:
    figures, limits = one.figures, one.thresholds
    drop = limits["max_quality_drop"]
    if figures["measure"] == promises.ERROR:
        return _errs(one, message)
    return [
        sentence(message),
        (
            f"That is {stat(figures['promised'] - figures['realised'])} less, where {drop:g} may be; and "
            f"beyond doubt: {limits['sigmas']:g} standard errors are "
            f"{stat(limits['sigmas'] * figures['se'])}."
        ),
        (
            "Labels say so, so the relation of score and truth is no longer that of the reference, or "
            "the rows have become harder."
        ),
    ]


def _errs(one: Verdict, message: str) -> list[str]:
    """Return how much more a regression errs than promised (`whimbrel_server.domain.promises`)."""
    figures, limits = one.figures, one.thresholds
    return [
        sentence(message),
        (
            f"As much as {percent(limits['max_quality_drop'])} more may be; and it is beyond doubt: "
            f"{limits['sigmas']:g} standard errors, of these labels and of the promise, are "
            f"{_short(limits['sigmas'] * figures['se'])}."
        ),
        (
            f"RMSE, by the same rows, is {_short(figures['rmse'])} and was promised as "
            f"{_short(figures['promised_rmse'])}: where it grew more than MAE, few rows err by far."
        ),
        (
            "Labels say so, so the same rows are answered worse than those of the reference were, or "
            "the rows have become harder."
        ),
    ]


def _wrong(one: Verdict, message: str) -> list[str]:
    """Return what is wrong with the data (`whimbrel_core.profile.drift.findings`)."""
    figures, limits = one.figures, one.thresholds
    running = int(figures["windows"])
    what = "window" if one.level == "device" else "period"
    rows = (
        f"So it was in the newest {count(running)} {what}s in a row"
        if running
        else f"In the newest {what} it is not so any more, in some before it was"
    )
    sentences = [
        sentence(message),
        (
            f"That is a share of {percent(figures['share'])}, where {percent(figures['usual'])} was "
            f"usual in the reference. {rows}; {limits['windows']:g} make an alert."
        ),
    ]
    look = _LOOK.get(str(figures["kind"]))
    return [*sentences, look] if look else sentences


def _together(one: Verdict, message: str) -> list[str]:
    """Return what many devices show together (`whimbrel_server.domain.rollups`)."""
    figures, limits = one.figures, one.thresholds
    sentences = [sentence(message)]
    named = [str(device) for device in figures.get("drifting") or []]
    if named:
        more = int(figures.get("count", len(named))) - len(named)
        rest = f" and {count(more)} more" if more > 0 else ""
        sentences.append(
            f"Strongest evidence first: {', '.join(named[:_SPELLED])}"
            f"{_rest(len(named) - _SPELLED) if len(named) > _SPELLED else rest}. Of those that are "
            f"named, {percent(limits['q'])} at most do not drift, on average."
        )
    sentences.append(
        f"Evidence, each device against its own beginning, added up: log e {figures['log_e']:.1f}, "
        f"where {limits['log_e']:.1f} is due. One budget of false alarms covers the devices, their "
        "cohorts and the fleet."
    )
    if figures.get("hidden"):
        sentences.append(
            "The fleet's average shows nothing of it: who looks at merged counts alone is not told."
        )
    return sentences


def _unlike(one: Verdict, message: str) -> list[str]:
    """Return how a device differs from its peers (`whimbrel_server.domain.outliers`)."""
    figures = one.figures
    return [
        sentence(message),
        (
            f"Its {figures['what']} is {figures['shift']:+.2f} reference standard deviations from "
            f"all the others together; {count(figures['peers_compared'])} devices differ among each "
            f"other by {figures['spread']:.2f}. So it was in {count(figures['periods'])} periods in a "
            f"row."
        ),
        "That is no drift: it may always have been so. Look for a sensor, a unit, a place.",
    ]


def _asked(one: Verdict, message: str) -> list[str]:
    """Return how far requests are from usual (`whimbrel_core.profile.watching.rate`)."""
    figures, limits = one.figures, one.thresholds
    period = one.inputs[-1]
    return [
        sentence(message),
        (
            f"So it was from {moment(period.start_ms)} to {moment(period.end_ms)}: "
            f"{abs(figures['z']):.1f} standard deviations from what the slot's own past lets expect at "
            f"that hour, where {limits['sigmas']:g} and {limits['ratio_warn']:g} times the usual, or that "
            f"part of it, are due in {limits['periods']:g} periods in a row."
        ),
        (
            "The device tells so by itself; holidays are no part of its past. Look at who asks it: a "
            "client that repeats itself, or one that is gone."
        ),
    ]


def _listed(one: Verdict) -> list[str]:
    """Return figures and thresholds of a rule that has no words of its own here."""
    parts = (("Found", one.figures), ("Needed", one.thresholds))
    return [
        f"{title}: {', '.join(f'{key} {_value(value)}' for key, value in values.items())}."
        for title, values in parts
        if values
    ]


def _value(value: object) -> str:
    if isinstance(value, float):
        return stat(value)
    if isinstance(value, list):
        return names([str(one) for one in value]) if value else "none"
    return "none" if value is None else str(value)


def _short(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _rest(number: int) -> str:
    return f" and {count(number)} more"
