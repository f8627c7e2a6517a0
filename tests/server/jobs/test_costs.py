"""What a drift is expected to cost stands beside its alert, and goes on with the windows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.server.jobs.test_fold import Books, messages
from whimbrel_core.profile.quality.estimates import expected
from whimbrel_server.jobs.costs import Costs

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.house import House


def test_an_alert_says_what_its_windows_are_expected_to_cost_and_keeps_up(
    house: House, tmp_path: Path
) -> None:
    made = house.publish("1.0.0", window_s=86_400)
    sent = messages(made, 72, drifting="lga")
    books = Books(house, tmp_path)
    books.take(sent[:-6])
    books.fold()
    fleet = books.fleet
    costs = Costs(fleet._database, fleet.repository)
    costs.tick()
    before = next(one for one in fleet.alerts() if one.feature == "x0").loss
    assert before is not None
    assert before.measure == "AUC"
    baseline = made.baseline
    assert baseline.calibration is not None
    assert baseline.window.score_cells is not None
    promised = expected(baseline.window.score_cells, baseline.calibration).auc
    assert before.reference == pytest.approx(promised)
    assert before.rows % 300 == 0
    books.take(sent[-6:])
    books.fold()
    costs.tick()
    after = next(one for one in fleet.alerts() if one.feature == "x0").loss
    assert after is not None
    assert after.rows == before.rows + 6 * 300
    assert f"expected AUC {after.reference:.3f} → " in after.sentence
    explained = next(one for one in fleet.alerts() if one.feature == "x0")
    assert fleet.explain(explained.id).losses[0] == after
    books.fleet.stop()
