"""Verdicts made again from what is stored, and held against what their alerts say.

Of a device's alarm, the whole history that it stands on goes through the detector once more: each
window under the policy that it was judged under then. And every window that the journal still
holds is judged anew from its very counts. Both must give the same bits.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

import msgspec

from whimbrel_core.errors import ProfileError, WhimbrelError
from whimbrel_core.profile.watching import alarms
from whimbrel_core.profile.watching.alarms import Policy, Position, changes
from whimbrel_core.profile.watching.judging import DeviceJudge
from whimbrel_server.domain import aggregation, promises, troubles, verdict
from whimbrel_server.domain.aggregation import DAY_MS
from whimbrel_server.domain.totals import Totals
from whimbrel_server.queries.replays import recount
from whimbrel_server.queries.replays.again import Again
from whimbrel_server.queries.replays.asked import judge_again
from whimbrel_server.queries.replays.regroup import regroup
from whimbrel_server.queries.replays.unlike import compare_again
from whimbrel_server.store import aggregates, judgements, policies
from whimbrel_server.views.verdicts import DifferenceView, ReplayView

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import sqlalchemy as sa

    from whimbrel_core.profile.flat import FlatWindow
    from whimbrel_server.domain.verdict import Input, Verdict
    from whimbrel_server.repository import Repository
    from whimbrel_server.store.judgements import Kept, Said
    from whimbrel_server.store.registry import Registry
    from whimbrel_server.views.alerts import AlertView

    History = list[tuple[Kept, Said]]

_BY = {verdict.DEVICE_DRIFT: "detector", verdict.DATA: "inspection of data"}
_TOLD = 5  # faults that are spelled out


def replays(
    connection: sa.Connection,
    repository: Repository,
    registry: Registry,
    alerts: Sequence[AlertView],
) -> tuple[ReplayView, ...]:
    """Return the verdict of each of ``alerts`` recomputed; those without a verdict are left out."""
    found = [(alert, verdict.read(alert.evidence)) for alert in alerts]
    wanted: dict[recount.SubjectKey, recount.Span] = {}
    for _, one in found:
        if one is not None and one.level == "device" and one.rule in _BY:
            span = recount.Span(one.first_ms or one.inputs[0].start_ms, one.at_ms)
            at = (one.digest, one.subject)
            wanted[at] = span.covering(wanted.get(at, span))
    windows = recount.held(connection, wanted)
    return tuple(
        _view(alert, one, _again(connection, repository, registry, one, windows))
        for alert, one in found
        if one is not None
    )


def _again(
    connection: sa.Connection,
    repository: Repository,
    registry: Registry,
    one: Verdict,
    windows: Mapping[recount.SubjectKey, Mapping[Position, FlatWindow]],
) -> Again:
    known = verdict.RULES.get(one.rule)
    if known != one.version:
        here = f"this server has version {known}" if known else "this server does not know it"
        return Again({}, f"it was made by version {one.version} of {one.rule}; {here}")
    try:
        if one.rule == verdict.GROUP_DRIFT:
            return regroup(connection, repository, registry, one)
        if one.rule == verdict.PEERS:
            return compare_again(connection, repository, one)
        if one.rule == verdict.RATE:
            return judge_again(connection, one)
        if one.rule == verdict.DATA:
            held = windows.get((one.digest, one.subject), {})
            return _data(connection, repository, one, held)
        if one.rule == verdict.DEVICE_DRIFT:
            return _device_drift(
                connection, repository, one, windows.get((one.digest, one.subject), {})
            )
        return _quality(connection, repository, one)
    except ProfileError as error:
        return Again({}, f"some of the counts that it stands on cannot be read: {error.message}")
    except WhimbrelError as error:
        return Again({}, f"its bundle cannot be read: {error.message}")


def _history(connection: sa.Connection, one: Verdict) -> History:
    """Return what is kept of the subject's windows, up to the last one of the verdict."""
    last = one.inputs[-1]
    position = Position(last.start_ms, last.key)
    return judgements.history(connection, one.digest, one.subject, position)


def _device_drift(
    connection: sa.Connection,
    repository: Repository,
    one: Verdict,
    windows: Mapping[Position, FlatWindow],
) -> Again:
    history = _history(connection, one)
    gone = _lack(one, [_input(kept) for kept, _ in history])
    under = policies.load(connection, {said.policy for _, said in history})
    if not gone and any(said.policy not in under for _, said in history):
        gone = "the policy that some of its windows were judged under is not known any more"
    if gone:
        return Again({}, gone)
    baseline = repository.contents(one.digest).baseline
    judges = {name: DeviceJudge(baseline, policy) for name, policy in under.items()}
    recounted, faults = 0, list[str]()
    for name, judge in judges.items():
        kept = [kept for kept, said in history if said.policy == name]
        number, found = recount.faults(judge, kept, windows)
        recounted += number
        faults += found
    figures = _figures(judges, history, one.feature)
    policy = under[history[-1][1].policy]
    if one.policy != _plain(policy):
        faults.append("the policy in the verdict is not the one that its windows name")
    return Again(figures, "", len(history), recounted, tuple(faults))


def _data(
    connection: sa.Connection,
    repository: Repository,
    one: Verdict,
    windows: Mapping[Position, FlatWindow],
) -> Again:
    history = _history(connection, one)[-len(one.inputs) :]
    what = "windows" if one.level == "device" else "periods"
    gone = _lack(one, [_input(kept) for kept, _ in history], what=what)
    if gone:
        return Again({}, gone)
    policy = msgspec.convert(one.policy, alarms.Policy)
    contents = repository.contents(one.digest)
    if one.level == "device":
        judge = DeviceJudge(contents.baseline, policy)
        recounted, faults = recount.faults(judge, [kept for kept, _ in history], windows)
    else:
        step = aggregation.step_of(contents.manifest.drift.window_s)
        recounted, faults = recount.group_faults(
            connection, contents.baseline, one.digest, one.subject, step, history
        )
    inspected = [
        troubles.Inspected(kept.findings, enough=kept.rows >= policy.thresholds.min_rows)
        for kept, _ in history
    ]
    # What fewer windows in a row have than make an alert was told before them, and lasts.
    key = (one.feature, str(one.figures["kind"]))
    told = {key} if int(one.figures["windows"]) < policy.confirm_windows else set[troubles.Key]()
    found = troubles.troubles(
        inspected, told, confirm=policy.confirm_windows, calm=policy.calm_windows
    )
    figures = next(
        (
            troubles.figures(trouble)
            for trouble in found
            if (trouble.finding.feature, trouble.finding.kind) == key
        ),
        {},
    )
    return Again(figures, "", len(history), recounted, faults)


def _figures(judges: Mapping[str, DeviceJudge], history: History, feature: str) -> dict[str, Any]:
    """Return what the rule finds of ``feature`` with the last window of ``history``."""
    state = next(iter(judges.values())).start()
    shown = None
    for name, run in groupby(history, key=lambda pair: pair[1].policy):
        judge, kept = judges[name], [kept for kept, _ in run]
        seen = judgements.seen_of(judge, kept)
        (state,), told, _ = judge.advance_all([state], seen, [range(len(kept))])
        (said,) = judgements.say(judge, told, [len(kept) - 1])
        shown = judgements.judgement(kept[-1], said).shown
    for change in changes(None, state, shown or (), state.newest.start_ms):
        if change.feature == feature:
            return verdict.figures_of(change.severity, change.evidence)
    return verdict.figures_of(None, {})


def _quality(connection: sa.Connection, repository: Repository, one: Verdict) -> Again:
    baseline = repository.contents(one.digest).baseline
    since = one.inputs[0].start_ms
    days = aggregates.periods(
        connection,
        one.digest,
        one.subject,
        "day",
        since_ms=since,
        until_ms=one.at_ms + 1,
    )
    totals = [(day, Totals.of(baseline.layout, day.window)) for day in days]
    found = [
        verdict.Input(day.bucket_ms, "", day.bucket_ms + DAY_MS, total.labels)
        for day, total in totals
    ]
    gone = _lack(one, found, what="days", rows="labels")
    quality = aggregates.total(baseline.layout, days).window().quality
    kept = promises.kept(quality, baseline) if quality is not None else None
    if gone or kept is None:
        return Again({}, gone or "no label of its days is stored any more")
    return Again(kept.figures(float(one.policy["max_quality_drop"])), "", len(days))


def _input(kept: Kept) -> Input:
    return verdict.Input(kept.start_ms, kept.key, kept.end_ms, kept.rows)


def _lack(
    one: Verdict, stored: Sequence[Input], *, what: str = "windows", rows: str = "rows"
) -> str:
    """Return why what is stored is not what the verdict stood on; empty when it is."""
    if len(stored) < one.history:
        return (
            f"{one.history - len(stored)} of the {one.history} {what} that it stands on are not "
            "stored any more"
        )
    if len(stored) > one.history:
        return f"{len(stored) - one.history} more {what} from before its last one came since"
    newest = tuple(stored[-len(one.inputs) :])
    if newest != one.inputs:
        return f"the {rows} of its {what} are others now: more have come since"
    return ""


def _plain(policy: Policy) -> Any:  # noqa: ANN401 - as the verdict has it
    return msgspec.json.decode(msgspec.json.encode(policy))


def _view(alert: AlertView, one: Verdict, again: Again) -> ReplayView:
    differences = () if again.gone else verdict.differences(one.figures, again.figures)
    faulty = bool(differences or again.faults)
    return ReplayView(
        alert=alert.id,
        rule=one.rule,
        version=one.version,
        outcome="incomplete" if again.gone else "differs" if faulty else "same",
        sentence=" ".join(filter(None, (_sentence(one, again, len(differences)), again.beside))),
        windows=again.parts,
        recounted=again.recounted,
        differences=tuple(
            DifferenceView(figure=d.figure, recorded=d.recorded, recomputed=d.recomputed)
            for d in differences
        ),
        faults=again.faults[:_TOLD],
        faults_in_all=len(again.faults),
    )


def _asked(again: Again) -> str:
    plural = "" if again.parts == 1 else "s"
    made = f"The requests of {again.parts} window{plural} judged by what was usual"
    return made if again.recounted == again.parts else f"{made}, from what is kept of them"


def _sentence(one: Verdict, again: Again, differences: int) -> str:
    if again.gone:
        return f"It cannot be recomputed: {again.gone}."
    if one.rule == verdict.GROUP_DRIFT:
        made = (
            f"The evidence of {again.parts} devices from their detectors' states, and "
            f"{again.recounted} periods of theirs together from their very counts"
        )
    elif one.rule == verdict.PEERS:
        made = f"The counts of {again.parts} devices compared again"
    elif one.rule == verdict.QUALITY:
        made = f"The labels of {again.parts} days"
    elif one.rule == verdict.RATE:
        made = _asked(again)
    else:
        what, where = (
            ("windows", "in the journal") if one.level == "device" else ("periods", "kept")
        )
        made = f"{again.parts} {what} through the {_BY[one.rule]} again"
        made += (
            f", {again.recounted} of them from their very counts"
            if again.recounted
            else f"; the counts of none are {where} any more"
        )
    if not differences and not again.faults:
        return f"The same to the last bit: {made[0].lower()}{made[1:]}."
    parts = []
    if differences:
        parts.append(f"{differences} figure{'' if differences == 1 else 's'} of the verdict differ")
    if again.faults and (one.rule in _BY or one.rule == verdict.GROUP_DRIFT):
        parts.append(f"{len(again.faults)} stored judgements are not what their counts give")
    elif again.faults:
        parts.append(again.faults[0])
    return f"Not the same: {' and '.join(parts)} ({made[0].lower()}{made[1:]})."
