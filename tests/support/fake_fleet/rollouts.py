"""The rollouts of the story: one that was finished, one whose gate stopped it, one that waits."""

from __future__ import annotations

from tests.support.fake_fleet.story import DAY, DEVICES, DIGESTS, MODEL, NOW
from whimbrel_server.views.rollouts import GateState, GateView, RolloutView, WaveView


def rollouts() -> list[RolloutView]:
    def gates(auc: float, state: GateState) -> tuple[GateView, ...]:
        return (
            GateView(
                name="rows",
                state="passed",
                value=812.0,
                limit=200.0,
                sentence="Every device served at least 812 rows; 200 are needed.",
            ),
            GateView(
                name="error_rate",
                state="passed",
                value=0.0,
                limit=0.02,
                sentence="0 of 812 requests failed; at most 2 % may.",
            ),
            GateView(
                name="auc",
                state=state,
                value=auc,
                limit=0.6,
                sentence=f"AUC is {auc:.3f} over 212 labels; at least 0.600 is needed.",
            ),
            GateView(
                name="output_drift",
                state="passed" if state == "passed" else "waiting",
                sentence="Outputs are judged at the end of the window.",
            ),
        )

    first = RolloutView(
        id=1,
        slot=MODEL,
        model=MODEL,
        version="1.1.0",
        digest=DIGESTS["1.1.0"],
        state="completed",
        from_versions=dict.fromkeys(DEVICES, "1.0.0"),
        wave=1,
        created_ms=NOW - 30 * DAY,
        updated_ms=NOW - 27 * DAY,
        actor="operator",
        waves=(
            WaveView(
                index=0,
                devices=("lga",),
                state="passed",
                started_ms=NOW - 30 * DAY,
                finished_ms=NOW - 29 * DAY,
                gates=gates(0.731, "passed"),
            ),
            WaveView(
                index=1,
                devices=("ewr", "jfk"),
                state="passed",
                started_ms=NOW - 29 * DAY,
                finished_ms=NOW - 27 * DAY,
                gates=gates(0.736, "passed"),
            ),
        ),
    )
    second = RolloutView(
        id=2,
        slot=MODEL,
        model=MODEL,
        version="1.2.0",
        digest=DIGESTS["1.2.0"],
        state="rolled_back",
        from_versions=dict.fromkeys(DEVICES, "1.1.0"),
        wave=0,
        created_ms=NOW - DAY,
        updated_ms=NOW - 3_600_000,
        actor="operator (ci)",
        reason="gate auc failed at wave 1: AUC is 0.470 over 212 labels; at least 0.600 is needed",
        waves=(
            WaveView(
                index=0,
                devices=("lga",),
                state="rolled_back",
                started_ms=NOW - DAY,
                finished_ms=NOW - 3_600_000,
                gates=gates(0.47, "failed"),
            ),
            WaveView(index=1, devices=("ewr", "jfk")),
        ),
    )
    third = RolloutView(
        id=3,
        slot=MODEL,
        model=MODEL,
        version="1.1.0",
        digest=DIGESTS["1.1.0"],
        state="running",
        from_versions={"pump-07": ""},
        wave=0,
        created_ms=NOW - 7_200_000,
        updated_ms=NOW - 60_000,
        actor="operator",
        waves=(
            WaveView(
                index=0,
                devices=("pump-07",),
                state="judging",
                started_ms=NOW - 7_200_000,
                gates=(
                    GateView(
                        name="rows",
                        state="waiting",
                        value=0.0,
                        limit=200.0,
                        sentence="pump-07 has served 0 rows; 200 are needed.",
                    ),
                ),
            ),
        ),
    )
    return [first, second, third]
