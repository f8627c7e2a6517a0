"""A verdict, its explanation and its replay for the fleet in memory, by the real rules and words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from whimbrel_core.errors import UsageError
from whimbrel_core.profile.quality.loss import Loss
from whimbrel_core.profile.watching import alarms
from whimbrel_server.domain import verdict
from whimbrel_server.domain.attribution import Arrival, Companion, Facts, Happening, Peer
from whimbrel_server.domain.wording import quality
from whimbrel_server.queries import explain, losses
from whimbrel_server.views.slices import SliceFeatureView, SliceView
from whimbrel_server.views.verdicts import ExplanationView, Paragraph, ReplayView

if TYPE_CHECKING:
    from whimbrel_server.domain.verdict import Verdict
    from whimbrel_server.views.alerts import AlertView
    from whimbrel_server.views.drift import LossView

_DAY = 86_400_000
COST = Loss(measure="AUC", reference=0.713, current=0.655, se=0.0061, rows=9_301)


SLICES = (
    SliceView(
        name="night",
        condition="sched_hour ≤ 6",
        rows=812,
        share=0.09,
        usual=0.08,
        state="severe",
        features=(
            SliceFeatureView(feature="temp", state="severe", psi=0.81),
            SliceFeatureView(feature="dewp", state="ok", psi=0.01),
        ),
        labelled_rows=300,
        auc_realised=0.52,
        accuracy_realised=0.61,
    ),
    SliceView(
        name="day", condition="6 < sched_hour", rows=8489, share=0.91, usual=0.92, state="ok"
    ),
)


def loss_view(one: Loss = COST) -> LossView:
    """Return an expected loss as people are told of it."""
    return losses.view(one)


def verdict_of(device: str, digest: str, feature: str, at_ms: int) -> Verdict:
    """Return the verdict of an alarm of one feature on one device."""
    policy = alarms.Policy()
    return verdict.reached(
        verdict.DEVICE_DRIFT,
        digest=digest,
        profile_id="cd" * 32,
        subject=f"d:{device}",
        feature=feature,
        inputs=[
            verdict.Input(at, f"00000000000000aa/{n:020d}", at + _DAY, 300 + n)
            for n, at in enumerate(range(at_ms - 60 * _DAY, at_ms + 1, _DAY))
        ],
        policy=policy,
        thresholds=verdict.thresholds_of(policy),
        figures=verdict.figures_of(
            "severe",
            {
                "role": "input",
                "what": "location",
                "log_e": 54.2,
                "psi": 0.61,
                "w1_sd": 0.83,
                "null_rate": 0.0,
                "null_shift": 0.0,
                "rows": 9301,
                "since_ms": at_ms - 9 * _DAY,
            },
        ),
    )


def explanation(alert: AlertView) -> ExplanationView:
    """Return an alert in words."""
    one = verdict.read(alert.evidence)
    if one is None:
        only = Paragraph(title="Found", sentences=(alert.message,))
        return ExplanationView(alert=alert, paragraphs=(only,))
    since = one.figures["since_ms"]
    facts = Facts(
        device=alert.device,
        labels={"site": "north"},
        since_ms=since,
        at_ms=one.inputs[-1].end_ms,
        raised_ms=one.inputs[-1].end_ms + 60_000,
        window_ms=_DAY,
        arrival=Arrival(
            version=alert.version, first_ms=since - 41 * _DAY, rollout=1, before="0.9.0"
        ),
        peers=(
            Peer(device="ewr", labels={"site": "north"}, since_ms=since + _DAY),
            Peer(device="jfk", labels={"site": "south"}),
        ),
        companions=(Companion("dewp", since),),
        happenings=(Happening(since - 7_200_000, "agent", "agent 0.1.0 → 0.2.0"),),
    )
    said = quality.labels_say("AUC", 0.641, 0.021, 812)
    moved = "Its mean was 38.1 °F and is 70.4 °F since; its standard deviation was 9.2 and is 8.8."
    return explain.assembled(alert, one, facts, (loss_view(),), moved=moved, labels=said)


def replay(alert: AlertView) -> ReplayView:
    """Return a verdict recomputed.

    Raises:
        UsageError: the alert is no judgement (``not_found``).
    """
    one = verdict.read(alert.evidence)
    if one is None:
        raise UsageError(
            f"alert {alert.id} is no judgement of counts: it has no verdict to recompute",
            code="not_found",
        )
    return ReplayView(
        alert=alert.id,
        rule=one.rule,
        version=one.version,
        outcome="same",
        sentence="The same to the last bit: 61 windows through the detector again, 2 of them from "
        "their very counts.",
        windows=61,
        recounted=2,
    )
