"""Rollouts over a real broker with simulated devices: waves, gates, falling back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from tests.server.conftest import running, settings_for, until
from tests.support.device import SimulatedDevice, serving
from tests.support.models import logistic, regression
from tests.support.windows import Counter
from whimbrel_core.errors import UsageError
from whimbrel_core.wire.assignment import Probation
from whimbrel_server.views.rollouts import Gates, RolloutSpec, Wave

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.broker import Broker
    from tests.support.house import House
    from whimbrel_core.wire.assignment import SlotAssignment
    from whimbrel_core.wire.messages import SlotReport
    from whimbrel_server.app import Fleet

pytestmark = pytest.mark.needs("mosquitto")

START_MS = 1_735_689_600_000
DAY_MS = 86_400_000
NAMES = ("ewr", "jfk", "lga")


class Scene:
    """A fleet of three devices on 1.0.0, and what is published beside it."""

    def __init__(self, house: House, broker: Broker, fleet: Fleet) -> None:
        self.fleet = fleet
        self.bundles = {
            "1.0.0": house.publish("1.0.0", window_s=86_400),
            "1.1.0": house.publish("1.1.0", window_s=86_400),
            "1.2.0": house.publish("1.2.0", window_s=86_400, recipe=logistic(6, sign=-1.0)),
        }
        self.by_digest = {made.digest: made for made in self.bundles.values()}
        self.devices = {
            name: SimulatedDevice(
                name, broker.port, fleet_key=house.fleet_key.public, adopt=self.adopt
            ).start()
            for name in NAMES
        }
        self._counters: dict[str, Counter] = {}
        until(lambda: len(fleet.devices()) == 3, "three births")
        until(lambda: fleet.health().repository_ok and len(self.published()) == 3, "the bundles")
        for name in NAMES:
            fleet.assign(name, "churn", "churn", "1.0.0", "operator")
        until(lambda: all(self.version(name) == "1.0.0" for name in NAMES), "1.0.0 everywhere")
        for name in NAMES:
            self.send(name, "1.0.0", days=3)

    def published(self) -> tuple[object, ...]:
        models = self.fleet.models()
        return models[0].versions if models else ()

    def adopt(self, slot: str, wanted: SlotAssignment) -> SlotReport:
        return serving(self.by_digest[wanted.digest], slot)

    def send(self, name: str, version: str, *, days: int, failed: int = 0) -> None:
        made = self.bundles[version]
        counter = self._counters.setdefault(version, Counter(made))
        for day in range(days):
            window = counter.window(
                START_MS + day * DAY_MS, seconds=86_400, rows=300, labels=True, failed=failed
            )
            self.devices[name].put_window(made, window)
        assert self.devices[name].wait_empty(20.0)

    def version(self, name: str) -> str:
        slots = self.fleet.device(name).slots
        return slots[0].version if slots else ""

    def start(self, version: str, *waves: tuple[str, ...], **gates: object) -> int:
        spec = RolloutSpec(
            slot="churn",
            model="churn",
            version=version,
            waves=tuple(Wave(devices=one) for one in waves),
            gates=msgspec.convert({"min_rows": 300, **gates}, Gates),
            deadline_s=30.0,
        )
        return self.fleet.start_rollout(spec, "operator").id

    def close(self) -> None:
        for device in self.devices.values():
            device.close()


@pytest.fixture
def scene(house: House, broker: Broker, tmp_path: Path) -> Iterator[Scene]:
    with running(settings_for(house, broker.port, tmp_path / "server")) as fleet:
        made = Scene(house, broker, fleet)
        yield made
        made.close()


def test_waves_follow_each_other_once_their_gates_pass(scene: Scene) -> None:
    number = scene.start("1.1.0", ("lga",), ("ewr", "jfk"), max_auc_drop=0.1, labels=600)
    until(lambda: scene.version("lga") == "1.1.0", "the canary")
    view = scene.fleet.rollout(number)
    assert (view.state, view.wave) == ("running", 0)
    assert scene.version("ewr") == scene.version("jfk") == "1.0.0"
    scene.send("lga", "1.1.0", days=3)
    until(lambda: scene.fleet.rollout(number).wave == 1, "the second wave")
    until(lambda: scene.version("jfk") == "1.1.0", "the rest")
    scene.send("ewr", "1.1.0", days=2)
    scene.send("jfk", "1.1.0", days=2)
    until(lambda: scene.fleet.rollout(number).state == "completed", "the end")
    view = scene.fleet.rollout(number)
    assert [wave.state for wave in view.waves] == ["passed", "passed"]
    assert {gate.state for wave in view.waves for gate in wave.gates} == {"passed"}
    assert view.from_versions == dict.fromkeys(NAMES, "1.0.0")


def test_a_model_that_is_wrong_stops_at_the_canary_and_goes_back_by_itself(scene: Scene) -> None:
    number = scene.start("1.2.0", ("lga",), (), max_auc_drop=0.1, labels=600)
    until(lambda: scene.version("lga") == "1.2.0", "the canary")
    scene.send("lga", "1.2.0", days=2)
    until(lambda: scene.fleet.rollout(number).state == "rolled_back", "the way back")
    view = scene.fleet.rollout(number)
    assert scene.version("lga") == "1.0.0"
    assert [wave.state for wave in view.waves] == ["failed", "pending"]
    assert "AUC" in view.reason
    for name in ("ewr", "jfk"):
        seen = {one.slots["churn"].digest for one in scene.devices[name].assignments}
        assert seen == {scene.bundles["1.0.0"].digest}
    alert = next(one for one in scene.fleet.alerts() if one.kind == "rollout")
    assert alert.severity == "severe"
    # A document may come twice (retained, and again at a birth), but never an older one.
    revisions = [one.revision for one in scene.devices["lga"].assignments]
    assert revisions == sorted(revisions)
    assert len(set(revisions)) == 3


def test_a_digest_that_a_device_quarantined_fails_the_wave(scene: Scene) -> None:
    lga = scene.devices["lga"]
    old = scene.bundles["1.0.0"]

    def refuse(slot: str, wanted: SlotAssignment) -> SlotReport:
        if wanted.digest != old.digest:
            lga.quarantined = (wanted.digest,)
        return serving(old, slot, error_code="parity.differs")

    lga._adopt = refuse
    number = scene.start("1.1.0", ("lga",), ())
    until(lambda: scene.fleet.rollout(number).state == "rolled_back", "the way back")
    assert "lga (parity.differs)" in scene.fleet.rollout(number).reason


def test_silence_past_the_deadline_is_failure(scene: Scene) -> None:
    number = _silent(scene, deadline_s=0.5)
    until(lambda: scene.fleet.rollout(number).state == "failed", "the deadline")
    assert "deadline" in scene.fleet.rollout(number).reason


def _silent(scene: Scene, *, deadline_s: float) -> int:
    scene.devices["lga"].close()
    spec = RolloutSpec(
        slot="churn",
        model="churn",
        version="1.1.0",
        waves=(Wave(devices=("lga",)),),
        deadline_s=deadline_s,
    )
    # It stays away: it has neither the new version nor can it say that it has the old one.
    record = scene.fleet._registry.get("lga")
    assert record is not None
    assert record.state is not None
    fetching = serving(scene.bundles["1.0.0"], phase="fetching")
    away = msgspec.structs.replace(
        record, state=msgspec.structs.replace(record.state, slots=(fetching,))
    )
    scene.fleet._registry.settle({"lga": away})
    return scene.fleet.start_rollout(spec, "operator").id


def test_pausing_holds_the_next_wave_and_aborting_restores(scene: Scene) -> None:
    number = scene.start("1.1.0", ("lga",), ("ewr", "jfk"))
    scene.fleet.pause_rollout(number, "operator")
    until(lambda: scene.version("lga") == "1.1.0", "the canary")
    scene.send("lga", "1.1.0", days=2)
    until(
        lambda: {gate.state for gate in scene.fleet.rollout(number).waves[0].gates} == {"passed"},
        "its gates",
    )
    assert scene.fleet.rollout(number).wave == 0
    with pytest.raises(UsageError, match="cannot pause"):
        scene.fleet.pause_rollout(number, "operator")
    scene.fleet.abort_rollout(number, "operator")
    until(lambda: scene.fleet.rollout(number).state == "aborted", "the way back")
    assert scene.version("lga") == "1.0.0"
    assert {entry.action for entry in scene.fleet.audit()} >= {"rollout.pause", "rollout.abort"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda spec: msgspec.structs.replace(spec, version="9.9.9"), "no version 9.9.9"),
        (lambda spec: msgspec.structs.replace(spec, slot="Bad Slot"), "slot name"),
        (
            lambda spec: msgspec.structs.replace(spec, waves=(Wave(devices=("nobody",)),)),
            "nobody",
        ),
        (
            lambda spec: msgspec.structs.replace(spec, waves=(Wave(labels={"a": "b"}),)),
            "takes no device",
        ),
        (lambda spec: msgspec.structs.replace(spec, waves=(Wave(percent=0.0),)), "percentage"),
        (lambda spec: msgspec.structs.replace(spec, gates=Gates(min_auc=1.5)), "min_auc"),
        (lambda spec: msgspec.structs.replace(spec, deadline_s=0.0), "deadline_s"),
    ],
    ids=["version", "slot", "device", "labels", "percent", "gate", "deadline"],
)
def test_a_rollout_that_cannot_be_is_refused_and_nothing_is_assigned(
    house: House,
    tmp_path: Path,
    free_port: int,
    change: Callable[[RolloutSpec], RolloutSpec],
    message: str,
) -> None:
    from tests.server.conftest import settings_for
    from whimbrel_server.app import Fleet

    house.publish("1.0.0")
    fleet = Fleet(settings_for(house, free_port, tmp_path), env={})
    try:
        assert fleet.knows("ewr")
        spec = RolloutSpec(slot="churn", model="churn", version="1.0.0")
        with pytest.raises(Exception, match=message):
            fleet.start_rollout(change(spec), "operator")
        assert fleet.rollouts() == ()
        assert fleet.device("ewr").revision_desired == 0
    finally:
        fleet.stop()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gates": Gates(min_auc=0.7)}, "gate min_auc"),
        ({"gates": Gates(max_auc_drop=0.02)}, "gate max_auc_drop"),
        ({"probation": Probation(min_auc=0.7)}, "probation min_auc"),
    ],
    ids=["min-auc", "auc-drop", "probation"],
)
def test_an_auc_that_will_never_be_known_is_not_waited_for(
    house: House, tmp_path: Path, free_port: int, change: dict[str, Any], message: str
) -> None:
    from tests.server.conftest import settings_for
    from whimbrel_server.app import Fleet

    # A regression has no classes, so none is positive.
    house.publish("1.0.0", recipe=regression())
    fleet = Fleet(settings_for(house, free_port, tmp_path), env={})
    try:
        assert fleet.knows("ewr")
        spec = RolloutSpec(slot="churn", model="churn", version="1.0.0", **change)
        with pytest.raises(UsageError, match=f"{message} asks for an AUC") as caught:
            fleet.start_rollout(spec, "operator")
        assert "--positive" in str(caught.value.hint)
        assert fleet.rollouts() == ()
        assert fleet.device("ewr").revision_desired == 0
    finally:
        fleet.stop()
