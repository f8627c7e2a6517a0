"""What surrounds a drift: since when it is, where else, and what else changed about then."""

from __future__ import annotations

from typing import TYPE_CHECKING

from whimbrel_core.drawing.written import count, duration, moment
from whimbrel_server.domain.wording.phrases import names

if TYPE_CHECKING:
    from whimbrel_server.domain.attribution import Attribution
    from whimbrel_server.domain.verdict import Verdict


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
