"""A version on probation is judged by what it answers, and by labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support import models
from tests.support.worker import FakeControl, row_request, slot_spec
from whimbrel_agent.channel import Drain, Drained, EndProbation, Judgement
from whimbrel_core.wire.assignment import Probation

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.models import MadeBundle
    from whimbrel_core.signing.keys import PrivateKey

DAY_MS = 86_400_000
NOON = 19_800 * DAY_MS + DAY_MS // 2


def test_a_good_version_passes_its_probation(control: FakeControl, churn: MadeBundle) -> None:
    probation = Probation(rows=150, labels=120, min_auc=0.7, max_error_rate=0.02)
    worker = control.start_worker(slot_spec(churn, probation=probation))
    feed_with_labels(control, churn)
    judgement = worker.judgement("passed")
    assert judgement.rows >= 150
    assert judgement.labels >= 120
    assert judgement.evidence["auc"] > 0.7


def test_a_plausible_but_wrong_version_fails_its_probation(
    control: FakeControl, churn: MadeBundle, publisher: PrivateKey, tmp_path: Path
) -> None:
    wrong = models.build_bundle(
        tmp_path, models.logistic(sign=-1.0), version="1.2.0", key=publisher
    )
    probation = Probation(rows=150, labels=120, min_auc=0.7)
    worker = control.start_worker(slot_spec(wrong, probation=probation))
    feed_with_labels(control, churn)
    judgement = worker.judgement("failed")
    assert judgement.evidence["auc_upper"] < 0.7
    assert "AUC" in judgement.reason


def test_a_version_that_fails_requests_fails_its_probation(
    control: FakeControl, publisher: PrivateKey, tmp_path: Path
) -> None:
    fragile = models.build_bundle(tmp_path, models.fragile(), name="fragile", key=publisher)
    worker = control.start_worker(slot_spec(fragile, probation=Probation(rows=100)))
    item = {"name": "i", "shape": [1, 1], "datatype": "INT64", "data": [99]}
    for _ in range(5):
        assert control.infer("churn", {"inputs": [item]})[0] == 500
    assert "requests failed" in worker.judgement("failed").reason


def test_a_committed_version_is_judged_no_more(control: FakeControl, churn: MadeBundle) -> None:
    worker = control.start_worker(slot_spec(churn, probation=Probation(rows=3, labels=0)))
    control.infer("churn", row_request([[0.0] * 20] * 3))
    worker.judgement("passed")
    worker.send(EndProbation("churn"))
    assert control.infer("churn", row_request([[0.0] * 20]))[0] == 200
    worker.send(Drain(1.0))
    following = worker.receive()
    while isinstance(following, Judgement):  # one may have been on its way
        assert following.verdict == "passed"
        following = worker.receive()
    assert isinstance(following, Drained)


def feed_with_labels(control: FakeControl, made: MadeBundle) -> None:
    rows, labels = made.recipe.rows["x"], made.recipe.labels
    assert labels is not None
    for start in range(0, 400, 100):
        chunk = rows[start : start + 100].tolist()
        ids = [f"p{start + i}" for i in range(100)]
        control.infer("churn", row_request(chunk, parameters={"ids": ids, "timestamp": NOON}))
        sent = [{"id": name, "label": int(labels[start + i])} for i, name in enumerate(ids)]
        control.call("POST", "/v2/models/churn/labels", {"labels": sent})
