"""Verdicts in words, for whoever is woken by them: short, in this order, and no more than is known.

What was found, since when, where, what else changed, what it costs, what this cannot see. Times
are UTC.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from whimbrel_core.drawing.written import count, duration, moment, percent, stat
from whimbrel_server.domain import verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from whimbrel_core.profile.counts import FeatureCounts
    from whimbrel_core.profile.layout import Feature
    from whimbrel_core.profile.quality.loss import Loss
    from whimbrel_server.domain.attribution import Attribution
    from whimbrel_server.domain.verdict import Verdict

_NAMED = 3
_SHARE = 0.005  # of a share, half a per cent is not worth a word
_SPELLED = 8
_READINGS = {
    "harmless": "harmless so far",
    "costly": "it costs quality",
    "better": "better than on the reference",
    "unclear": "not sure yet",
}
BLIND = (
    "Expected quality takes for granted that a score still means what it meant on the reference "
    "rows. When the relation of score and truth itself has changed, only labels show it."
)


def cost(one: Loss) -> str:
    """Return what scores promise now beside what they promised.

    >>> from whimbrel_core.profile.quality.loss import Loss
    >>> cost(Loss(measure="AUC", reference=0.713, current=0.7124, se=0.0011, rows=900))
    'expected AUC 0.713 → 0.712 (± 0.002): harmless so far'
    """
    return (
        f"expected {one.measure} {stat(one.reference)} → {stat(one.current)} "
        f"(± {stat(2 * one.se)}): {_READINGS[one.reading]}"
    )


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
    return [_sentence(message), *_listed(one)]


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
        for was, is_, name in shares[:_NAMED]
        if abs(is_ - was) >= _SHARE
    )
    return f"How often its values came, and come since: {listed}." if listed else ""


def begun(one: Verdict, story: Attribution, subject: str) -> list[str]:
    """Return since when, and how that lies to the version's own beginning on the device."""
    if story.since_ms is None:
        return ["When it began the rule cannot tell."]
    last = one.inputs[-1]
    sentences = [
        (
            f"It began about {moment(story.since_ms)}, and was sure with the window of "
            f"{moment(last.start_ms)}."
        )
    ]
    arrival = story.arrival
    if arrival is not None and story.served_ms is not None:
        sentences.append(_after(one, story, subject))
    if story.earlier:
        sentences.append(f"The same feature had drifted here under {story.earlier}, too.")
    return sentences


def spread(story: Attribution, subject: str, feature: str) -> list[str]:
    """Return where else the same is seen."""
    sentences = []
    others = f"{count(story.others)} other device{'' if story.others == 1 else 's'}"
    serve = "serves" if story.others == 1 else "serve"
    if not story.others:
        sentences.append("No other device serves this version: there is nothing to compare with.")
    elif story.devices:
        sentences.append(
            f"{feature} drifted about then on {names(story.devices)}, too, of {others} that {serve} "
            "this version: look for a common cause."
        )
        if story.cohort:
            sentences.append(
                f"All of them are {story.cohort}, and most that are {story.cohort} have it."
            )
    else:
        sentences.append(
            f"On {subject} alone: {others} {serve} this version, and {feature} did not drift there "
            "about then. Look at the device, its sensors and its surroundings."
        )
    if story.elsewhere:
        sentences.append(f"At another time it drifted on {names(story.elsewhere)}.")
    if story.features:
        sentences.append(f"On {subject}, {names(story.features)} drifted about then, too.")
    else:
        sentences.append(f"No other feature drifted on {subject} about then.")
    if story.slices:
        sentences.append(
            f"Only in {names(story.slices)}; not in {names(story.calm_slices)}, over the days since."
        )
    return sentences


def changed(story: Attribution, subject: str, reach_ms: int) -> list[str]:
    """Return what else changed about then, or that nothing is known to have."""
    if story.since_ms is None:
        return []
    if not story.one_clock:
        return [
            (
                "The windows carry the times of their events, and the server's log has its own: what was "
                f"changed on {subject} cannot be put beside them by time."
            )
        ]
    if story.near:
        return [f"{moment(one.at_ms)}: {one.text}." for one in story.near]
    return [
        (
            f"Nothing is known to have changed on {subject} in the {duration(reach_ms / 1000)} before: "
            "not its versions, agent, configuration, labels or clock."
        )
    ]


def names(of: Sequence[str]) -> str:
    """Return some names as people list them, the first few spelled.

    >>> names(["a"]), names(["a", "b"]), names(["a", "b", "c", "d", "e"])
    ('a', 'a and b', 'a, b, c and 2 more')
    """
    if len(of) > _NAMED + 1:
        return f"{', '.join(of[:_NAMED])} and {len(of) - _NAMED} more"
    return " and ".join(filter(None, (", ".join(of[:-1]), of[-1])))


def judged(one: Verdict, alert: int) -> list[str]:
    """Return by which rule, on what, and how to check it."""
    last = one.inputs[-1]
    what = "window" if one.rule in {verdict.DEVICE_DRIFT, verdict.DATA} else "period"
    span = f"{count(one.history)} {what}{'' if one.history == 1 else 's'}"
    return [
        (
            f"Rule {one.rule}, version {one.version}, over {span} from {moment(one.first_ms)} to "
            f"{moment(last.end_ms)}, against the baseline of bundle {one.digest[:12]}."
        ),
        f"To have it worked out again from what is stored: whimbrel fleet replay {alert}.",
    ]


def costs(sentences: Sequence[str], rows: int, *, began: bool) -> list[str]:
    """Return what scores promise of ``rows`` rows: since it began, or of the newest window."""
    if not sentences:
        return [
            "What it costs cannot be expected: the bundle says nothing of how its scores came true."
        ]
    since = " since it began" if began else ""
    return [f"By the scores of {count(rows)} rows{since}: {'; '.join(sentences)}."]


def labels_say(measure: str, value: float, se: float | None, n: int) -> str:
    """Return what joined labels say of the same time."""
    doubt = f" (± {stat(2 * se)})" if se is not None else ""
    return f"Labels of that time say: {measure} {stat(value)}{doubt} over {count(n)} labels."


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


def _together(one: Verdict, message: str) -> list[str]:
    """Return what many devices show together (`whimbrel_server.domain.rollups`)."""
    figures, limits = one.figures, one.thresholds
    sentences = [_sentence(message)]
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


def _short(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _rest(number: int) -> str:
    return f" and {count(number)} more"


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


def _wrong(one: Verdict, message: str) -> list[str]:
    """Return what is wrong with the data (`whimbrel_core.profile.drift.findings`)."""
    figures, limits = one.figures, one.thresholds
    running = int(figures["windows"])
    rows = (
        f"So it was in the newest {count(running)} windows in a row"
        if running
        else ("In the newest window it is not so any more, in some before it was")
    )
    sentences = [
        _sentence(message),
        (
            f"That is a share of {percent(figures['share'])}, where {percent(figures['usual'])} was "
            f"usual in the reference. {rows}; {limits['windows']:g} make an alert."
        ),
    ]
    look = _LOOK.get(str(figures["kind"]))
    return [*sentences, look] if look else sentences


def _unlike(one: Verdict, message: str) -> list[str]:
    """Return how a device differs from its peers (`whimbrel_server.domain.outliers`)."""
    figures = one.figures
    return [
        _sentence(message),
        (
            f"Its {figures['what']} is {figures['shift']:+.2f} reference standard deviations from "
            f"all the others together; {count(figures['peers_compared'])} devices differ among each "
            f"other by {figures['spread']:.2f}. So it was in {count(figures['periods'])} periods in a "
            f"row."
        ),
        "That is no drift: it may always have been so. Look for a sensor, a unit, a place.",
    ]


def _broken(one: Verdict, message: str) -> list[str]:
    figures, limits = one.figures, one.thresholds
    drop = limits["max_quality_drop"]
    return [
        _sentence(message),
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


def _after(one: Verdict, story: Attribution, subject: str) -> str:
    assert story.arrival is not None  # noqa: S101 - the caller asked
    assert story.served_ms is not None  # noqa: S101 - likewise
    arrival, served = story.arrival, duration(story.served_ms / 1000)
    by = f"rollout {arrival.rollout}" if arrival.rollout is not None else ""
    if story.near_rollout:
        came = (
            f"{by} brought {arrival.version} to {subject}"
            if by
            else f"{arrival.version} came to {subject}"
        )
        before = f" (before: {arrival.before})" if arrival.before else ""
        warmup = one.policy.get("detector", {}).get("warmup")
        learnt = (
            f" The first {count(warmup)} windows taught the detector what is usual: of what came with "
            "the version itself, only the rest is evidence."
            if warmup
            else ""
        )
        return f"That is {served} after {came}{before}.{learnt}"
    since = f"since {moment(arrival.first_ms)}" + (f", by {by}" if by else "")
    return f"No rollout is near: {subject} had served {arrival.version} for {served} by then ({since})."


def _sentence(text: str) -> str:
    text = text.strip()
    return text if text.endswith(".") else f"{text}."
