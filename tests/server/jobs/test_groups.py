"""Many devices through the real database: one alert for them, theirs under it, policies of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from tests.server.conftest import settings_for
from tests.server.tampering import changed
from tests.support import windows
from tests.support.windows import Counter
from whimbrel_server import config
from whimbrel_server.app import Fleet
from whimbrel_server.domain.policies import Override
from whimbrel_server.ingest.batch import Incoming, sort
from whimbrel_server.store import schema
from whimbrel_server.web import attention

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from tests.support.house import House
    from tests.support.models import MadeBundle
    from whimbrel_server.views.alerts import AlertView

START_MS = 1_735_689_600_000
DAY_MS = 86_400_000
SHORT = Override(warmup_windows=8)
DEVICES = tuple(f"d{n:02}" for n in range(40))
SITES = ("ewr", "jfk", "lga", "bos")


class Books:
    """A fleet without threads: days of windows go in, the fold is run by hand."""

    def __init__(
        self,
        house: House,
        made: MadeBundle,
        folder: Path,
        devices: Iterable[str] = DEVICES,
        *overrides: Override,
        sites: bool = True,
    ) -> None:
        self._house, self._folder, self._made = house, folder, made
        self._counters = {device: Counter(made, seed=n) for n, device in enumerate(devices)}
        self.open(*overrides)
        for device in self._counters:
            assert self.fleet.knows(device)
            if sites:
                site = SITES[int(device[1:]) // 10]
                self.fleet.label_device(device, {"site": site}, "operator")

    def open(self, *overrides: Override) -> None:
        monitoring = config.Monitoring(checkpoint_s=0.1, override=overrides)
        settings = settings_for(self._house, 1, self._folder, monitoring=monitoring)
        self.fleet = Fleet(settings, env={}, now_ms=lambda: START_MS)

    def again(self, *overrides: Override) -> None:
        """Stop the server, and start it with other overrides."""
        self.fleet.stop()
        self.open(*overrides)

    def days(self, first: int, last: int, shift: Callable[[str], float] = lambda _: 0.0) -> None:
        batch = []
        for device, counter in self._counters.items():
            for day in range(first, last):
                window = counter.window(
                    START_MS + day * DAY_MS, seconds=86_400, rows=150, shift=shift(device)
                )
                data = windows.message(
                    self._made, window, device=device, epoch="00000000000000aa", seq=day + 1
                )
                batch.append(Incoming(f"whimbrel/v1/{device}/up/window", data, 0))
        sorted_out = sort(batch, self.fleet._admission)
        journal = self.fleet._journal
        self.fleet._database.write(
            lambda connection: journal.commit(connection, sorted_out, START_MS), journal.settle
        )
        self.fleet._fold.catch_up()


def alerts_of_x0(fleet: Fleet, *kinds: str) -> list[AlertView]:
    return [one for one in fleet.alerts("open") if one.feature == "x0" and one.kind in kinds]


@pytest.fixture
def made(house: House) -> MadeBundle:
    return house.publish("1.0.0", window_s=86_400)


def test_a_drift_of_some_devices_is_one_alert_with_theirs_under_it_though_the_average_hides_it(
    house: House, made: MadeBundle, tmp_path: Path
) -> None:
    books = Books(house, made, tmp_path, DEVICES, SHORT)
    books.days(0, 10)
    assert alerts_of_x0(books.fleet, "drift", "outlier") == []
    drifting = set(DEVICES[:4])
    books.days(10, 15, lambda device: 0.9 if device in drifting else 0.0)
    books.days(15, 16, lambda device: 0.9 if device in drifting else 0.0)
    alerts = alerts_of_x0(books.fleet, "drift", "outlier")
    (top,) = attention.standing(alerts)
    assert top.scope == "fleet"
    assert top.device == ""
    assert top.message.startswith("x0 of churn 1.0.0 has drifted on 4 of 40 devices, most in ")
    assert "site=ewr (4 of 10)" in top.message
    assert "hidden in the fleet's average: PSI 0.0" in top.message
    assert ", since " in top.message
    under = [one for one in alerts if one.under == top.cause]
    assert {one.device for one in under if one.kind == "drift"} == drifting
    assert [one for one in alerts if one not in under] == [top]
    # Nobody is told four times of one thing.
    (group,) = [one for one in attention.groups(alerts) if one.alerts == (top,)]
    assert {one.device for one in group.devices} == drifting
    # The same finding, for who looks: a controlled list, strongest first.
    (found,) = [one for one in books.fleet.groups("churn").rollups if one.feature == "x0"]
    assert {one.device for one in found.drifting} == drifting
    assert found.hidden
    assert found.alert
    assert found.fleet_psi is not None
    assert found.fleet_psi < 0.02
    explained = books.fleet.explain(top.id)
    assert "site=ewr" in msgspec.json.encode(explained).decode()
    assert top.evidence["figures"]["count"] == 4
    assert top.evidence["thresholds"]["q"] == 0.05
    again = {one.alert: one.outcome for one in books.fleet.replays()}
    assert again[top.id] == "same", books.fleet.replay(top.id)
    assert {again[one.id] for one in under} == {"same"}
    seen = books.fleet.acknowledge_alert(top.id, "operator")
    assert seen.state == "acknowledged"
    assert alerts_of_x0(books.fleet, "drift", "outlier") == []
    # Something comes to rest: the finding ends with its devices' alarms.
    books.days(16, 30)
    assert not [
        one
        for one in books.fleet.alerts()
        if one.feature == "x0" and one.kind == "drift" and one.state != "closed"
    ]
    assert not [one for one in books.fleet.groups("churn").rollups if one.feature == "x0"]
    books.fleet.stop()


def test_a_device_unlike_its_peers_is_told_without_any_change_and_ends_when_it_is_like_them(
    house: House, made: MadeBundle, tmp_path: Path
) -> None:
    books = Books(house, made, tmp_path, DEVICES[:10], sites=False)
    odd = DEVICES[3]
    books.days(0, 4, lambda device: 2.0 if device == odd else 0.0)
    (alert,) = alerts_of_x0(books.fleet, "drift", "outlier")
    assert (alert.kind, alert.device, alert.severity) == ("outlier", odd, "warn")
    assert alert.message.startswith("x0 of churn 1.0.0 on d03 is unlike the others: location +2.")
    (found,) = [one for one in books.fleet.groups("churn").outliers if one.feature == "x0"]
    assert (found.device, found.devices, found.since_ms) == (odd, 10, START_MS)
    assert found.z > 5
    assert books.fleet.explain(alert.id).alert.id == alert.id
    again = books.fleet.replay(alert.id)
    assert (again.outcome, again.windows) == ("same", 10), again.sentence
    # Since when, and in how many periods, is no more taken from the verdict than its distance is.
    table, own = schema.alerts, schema.alerts.c.id == alert.id
    with changed(books, table, own) as (rows, put):
        figures = alert.evidence["figures"] | {"periods": 9, "since_ms": START_MS - 1}
        rows[0]["evidence"] = msgspec.json.encode(alert.evidence | {"figures": figures})
        put(rows)
        again = books.fleet.replay(alert.id)
    assert {one.figure for one in again.differences} == {"periods", "since_ms"}
    # After a restart it is the same one; it ends after calm periods.
    books.again()
    books.days(4, 9)
    assert not [one for one in books.fleet.alerts("open") if one.kind == "outlier"]
    assert books.fleet.groups("churn").outliers == ()
    books.fleet.stop()


def test_another_policy_judges_again_what_was_kept_and_says_so(
    house: House, made: MadeBundle, tmp_path: Path
) -> None:
    devices = DEVICES[:1] + DEVICES[9:12]

    def shift(device: str) -> float:
        return 0.9 if device in {"d00", "d11"} else 0.0

    books = Books(house, made, tmp_path, devices, SHORT)
    books.days(0, 10)
    books.days(10, 16, shift)
    before = {one.device for one in books.fleet.alerts("open") if one.kind == "drift"}
    assert before >= {"d00", "d11"}
    # In one site alone a shift of .9 sd is no warning any more: PSI .8, and it counts from 5.
    patient = Override(cohort="site=ewr", warn_psi=5.0, severe_psi=9.0, confirm_windows=6)
    books.again(SHORT, patient)
    books.days(16, 17, shift)
    views = {one.subject: one for one in books.fleet.drift("churn", level="device")}
    assert len(books.fleet.drift_series("churn", device="d00", feature="x0")["x0"]) == 17
    after = [one for one in books.fleet.alerts("open") if one.kind == "drift" and one.device]
    assert "d11" in {one.device for one in after}
    for one in after:
        source = one.evidence["policy"]["source"]
        assert ("site=ewr" in source) == (one.device not in {"d10", "d11"}), source
    levels = {
        point.state for point in books.fleet.drift_series("churn", device="d11", feature="x0")["x0"]
    }
    assert levels & {"warn", "severe"}
    assert views["d11"].worst in {"warn", "severe"}
    # And back again: nothing was lost on the way.
    books.again(SHORT)
    books.days(17, 18, shift)
    alarmed = {one.device for one in books.fleet.alerts("open") if one.kind == "drift"}
    assert alarmed >= {"d00", "d11"}
    fresh = Books(house, made, tmp_path / "fresh", devices, SHORT)
    fresh.days(0, 10)
    fresh.days(10, 18, shift)
    replayed, plain = (
        msgspec.json.encode(some.fleet.drift_series("churn", device="d00", feature="x0"))
        for some in (books, fresh)
    )
    assert replayed == plain
    books.fleet.stop()
    fresh.fleet.stop()
