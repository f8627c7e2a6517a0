"""The story: a year of flights, and what happens to three devices, a server and a broker in it."""

from __future__ import annotations

import contextlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from examples.flights.data import DEVICES, Flights, load
from examples.flights.release import MODEL
from examples.flights.replay import SLOT, Replay
from examples.flights.stage import CUT_DEVICE, Stage
from examples.flights.train import train_into
from whimbrel_core.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from examples.flights.narrator import Narrator

FIRST_DAY: Final = date(2013, 3, 1)
LAST_DAY: Final = date(2013, 12, 31)
BROKER_KILLED: Final = date(2013, 7, 9)
SERVER_KILLED: Final = date(2013, 8, 13)
NETWORK_CUT: Final = date(2013, 9, 1)
NETWORK_MENDED: Final = date(2013, 10, 1)
BAD_RELEASE: Final = date(2013, 10, 15)
CANARY: Final = "lga"

# An absolute .65 would stop a good model in some weeks (seven days of one airport have a standard
# error of .03 to .07 in AUC); the mistake that 1.2.0 has never comes above .53 in a week.
MIN_AUC: Final = 0.55
WEEK_ROWS: Final = 1_500


@dataclass(slots=True)
class Facts:
    """What was seen on the way, for the closing table."""

    drift: dict[str, dict[str, Any]] = field(default_factory=dict)
    retraining: dict[str, Any] | None = None
    canary_days: dict[str, tuple[date, date]] = field(default_factory=dict)
    served_110_from: date | None = None
    rollouts: dict[str, dict[str, Any]] = field(default_factory=dict)
    offline_requests: int = 0
    versions_seen: dict[str, set[str]] = field(default_factory=lambda: {d: set() for d in DEVICES})


class Story:
    """Plays the acts in order; `facts` collects what the closing table holds against promises."""

    def __init__(self, stage: Stage, narrator: Narrator) -> None:
        self.stage = stage
        self.narrator = narrator
        self.facts = Facts()
        self.replays: dict[str, Replay] = {}
        self.flights: Flights
        self._seen_alerts: set[int] = set()
        self._seen_waves: dict[tuple[int, int], str] = {}
        self._offline_from = 0
        self.today = FIRST_DAY

    # ----------------------------------------------------------------------- before the year

    def build(self) -> None:
        """Train, pack, sign and publish 1.0.0 on the build machine."""
        say, machine = self.narrator.say, self.stage.machine
        self.narrator.chapter("On the build machine")
        self.flights = load()
        recipe = train_into(
            machine.model_folder("1.0.0"), self.flights, date(2013, 1, 1), FIRST_DAY
        )
        say(
            f"trained on {recipe['rows']:,} flights of January and February: is a departure more "
            f"than 15 minutes late? AUC {recipe['metrics']['auc']:.3f} on the days held out"
        )
        self.stage.open_repository()
        packed = machine.release("1.0.0", self.narrator.command)
        parity = packed["manifest"]["parity"]
        say(
            f"proven on {parity['rows']:,} rows, adversarial ones included: largest difference "
            f"{parity['max_abs_error']:.1e}; bundle of {Path(packed['path']).stat().st_size / 1000:.0f} kB, signed"
        )

    def open(self) -> None:
        """Start broker, server and agents; bring 1.0.0 to all three devices."""
        say, stage = self.narrator.say, self.stage
        self.narrator.chapter("A fleet of three airports")
        stage.open_server()
        say(
            "mosquitto with mutual TLS is the broker"
            if stage.broker
            else "no mosquitto on PATH: the server runs its embedded broker"
        )
        for device in DEVICES:
            stage.enrol(device)
        stage.fleet("rollout", "start", SLOT, MODEL, "1.0.0",
                    "--min-rows", "0", "--min-windows", "0", "--probation-rows", "0")  # fmt: skip
        stage.wait_for(
            "all devices serve 1.0.0",
            lambda: stage.serving() == dict.fromkeys(DEVICES, "1.0.0"),
        )
        say("each device has fetched, verified and probed 1.0.0, and serves it", style="good")
        say(f"the dashboard is at {stage.url}", style="bold")
        for device in DEVICES:
            flights = self.flights.for_device(device)
            self.replays[device] = Replay(device, flights, stage.device_ports[device])

    # ------------------------------------------------------------------------------ the year

    def live(self) -> None:
        """Replay March to December, through everything that happens on the way."""
        self.narrator.chapter("March to December, flight by flight")
        happenings: dict[date, Callable[[], None]] = {
            BROKER_KILLED: self._kill_broker,
            BROKER_KILLED + timedelta(days=2): self._restart_broker,
            SERVER_KILLED: self._kill_server,
            SERVER_KILLED + timedelta(days=2): self._restart_server,
            NETWORK_CUT: self._cut_network,
            NETWORK_MENDED: self._mend_network,
            BAD_RELEASE: self._release_bad,
        }
        total = (LAST_DAY - FIRST_DAY).days + 1
        with ThreadPoolExecutor(len(DEVICES)) as pool:
            for number in range(total):
                day = FIRST_DAY + timedelta(days=number)
                self.today = day
                if day in happenings:
                    happenings[day]()
                for done in [pool.submit(r.play, day) for r in self.replays.values()]:
                    done.result()
                self._look()
                self.narrator.progress(number + 1, total, f"{day:%d %B}")
        self.narrator.end_progress()

    def settle(self) -> None:
        """Close what is open, and wait until the server has merged all that devices sent."""
        stage = self.stage
        for replay in self.replays.values():
            replay.close()
        # A line that does not hold belongs into the closing table, not into an error.
        with contextlib.suppress(UnavailableError):
            stage.wait_for("all is counted", self._all_counted, timeout_s=20)
        stage.wait_for(
            "the server has judged everything",
            lambda: (stage.get("health") or {}).get("judged_behind") == 0,
        )
        self._look()

    def _all_counted(self) -> bool:
        counts = {count["device"]: count for count in self.stage.get("counts") or []}
        return all(
            counts.get(device, {}).get("rows", 0) >= len(replay.answers.score)
            for device, replay in self.replays.items()
        ) and all(self.stage.agent_status(d)["outbox"]["rows"] == 0 for d in DEVICES)

    # ------------------------------------------------------------------------ what goes wrong

    def _kill_broker(self) -> None:
        if self.stage.broker:
            self.stage.broker.kill()
            self.narrator.say("kill -9: the broker is gone", on=self.today, style="warn")

    def _restart_broker(self) -> None:
        if self.stage.broker:
            self.stage.start_broker()
            self.narrator.say("the broker is back, remembering nothing", on=self.today)

    def _kill_server(self) -> None:
        self.stage.server.kill()
        self.narrator.say("kill -9: the server is gone", on=self.today, style="warn")

    def _restart_server(self) -> None:
        self.stage.start_server()
        self.narrator.say("the server is back, with everything it acknowledged", on=self.today)

    def _cut_network(self) -> None:
        self._offline_from = self.replays[CUT_DEVICE].requests
        self.stage.networks[CUT_DEVICE].cut()
        self.narrator.say(
            f"the network of {CUT_DEVICE} is cut; it goes on serving", on=self.today, style="warn"
        )

    def _mend_network(self) -> None:
        self.facts.offline_requests = self.replays[CUT_DEVICE].requests - self._offline_from
        self.stage.networks[CUT_DEVICE].mend()
        self.narrator.say(
            f"the network of {CUT_DEVICE} is back after {self.facts.offline_requests:,} requests "
            "answered without it; its windows follow",
            on=self.today,
        )

    # -------------------------------------------------------------------------- what is done

    def _roll_out(self, version: str) -> None:
        self.stage.fleet(
            "rollout", "start", SLOT, MODEL, version,
            "--wave", CANARY, "--wave", "rest",
            "--min-rows", str(WEEK_ROWS), "--labels", str(WEEK_ROWS), "--min-auc", str(MIN_AUC),
            "--max-error-rate", "0.01", "--probation-rows", "500", "--probation-labels", "500",
            "--probation-min-auc", str(MIN_AUC),
        )  # fmt: skip
        self.facts.canary_days[version] = (self.today, self.today)
        self._wait_for_devices((CANARY,), version)

    def _wait_for_devices(self, devices: Iterable[str], version: str) -> None:
        """Hold the calendar while devices update: the seconds that it takes would be weeks."""

        def served() -> bool:
            slots = {d: self._slot(d) for d in devices}
            return all(slot.get("version") == version for slot in slots.values())

        self.stage.wait_for(f"{version} serves on {', '.join(devices)}", served)

    def _slot(self, device: str) -> dict[str, Any]:
        found = self.stage.get(f"devices/{device}") or {}
        return next((s for s in found.get("slots", []) if s["slot"] == SLOT), {})

    def _release_bad(self) -> None:
        machine = self.stage.machine
        recipe = train_into(
            machine.model_folder("1.2.0"), self.flights, date(2013, 5, 1), date(2013, 8, 1),
            flaw="newest-first",
        )  # fmt: skip
        self.narrator.say(
            "somebody pastes delays beside the wrong flights, and trains 1.2.0 on that: "
            f"AUC {recipe['metrics']['auc']:.3f} on its own held-out days, nothing to see",
            on=self.today,
        )
        machine.release("1.2.0", self.narrator.command)
        self.stage.wait_for("the server knows 1.2.0", lambda: self._published("1.2.0"))
        self._roll_out("1.2.0")

    def _published(self, version: str) -> bool:
        model = self.stage.get(f"models/{MODEL}") or {}
        return any(v["version"] == version for v in model.get("versions", []))

    def _retrain(self, alert: dict[str, Any]) -> None:
        """The server runs the retraining command now: hold the calendar until it is published."""
        self.facts.retraining = alert
        self.narrator.say(
            "the alarm starts the retraining command; the calendar waits for it", on=self.today
        )
        self.stage.wait_for(
            "1.1.0 is published by the retraining command",
            lambda: self._published("1.1.0"),
            timeout_s=90,
        )
        recipe = json.loads(
            (self.stage.machine.model_folder("1.1.0") / "recipe.json").read_text(encoding="utf-8")
        )
        self.narrator.say(
            f"1.1.0 is trained until {recipe['to']}, packed, proven and published", style="good",
            on=self.today,
        )  # fmt: skip
        self._roll_out("1.1.0")

    # -------------------------------------------------------------------------- what is seen

    def _look(self) -> None:
        """Tell what the server newly says."""
        for alert in sorted(self.stage.get("alerts?limit=200") or [], key=lambda a: a["id"]):
            if alert["id"] not in self._seen_alerts:
                self._seen_alerts.add(alert["id"])
                self._hear(alert)
        for rollout in self.stage.get("rollouts") or []:
            self._follow(rollout)
        for device, version in self.stage.serving().items():
            self.facts.versions_seen[device].add(version)

    def _hear(self, alert: dict[str, Any]) -> None:
        when = datetime.fromtimestamp(alert["at_ms"] / 1000, tz=UTC).date()
        if alert["kind"] == "drift" and alert["device"]:
            if alert["device"] not in self.facts.drift:
                self.facts.drift[alert["device"]] = alert
                self.narrator.say(alert["message"], on=when, style="warn")
        elif alert["kind"] == "retraining" and self.facts.retraining is None:
            self.narrator.say(alert["message"], on=when, style="warn")
            self._retrain(alert)
        elif alert["kind"] == "quality":
            self.narrator.say(alert["message"], on=when, style="warn")

    def _follow(self, rollout: dict[str, Any]) -> None:
        version = rollout["version"]
        self.facts.rollouts[version] = rollout
        for wave in rollout["waves"]:
            key = (rollout["id"], wave["index"])
            if self._seen_waves.get(key) == wave["state"]:
                continue
            self._seen_waves[key] = wave["state"]
            if version == "1.0.0" or wave["state"] not in {"passed", "failed", "rolled_back"}:
                continue
            where = ", ".join(wave["devices"])
            style = "good" if wave["state"] == "passed" else "bad"
            self.narrator.say(
                f"{version}, wave {wave['index'] + 1} ({where}): {wave['state']}",
                on=self.today, style=style,
            )  # fmt: skip
            following = wave["index"] + 1
            if wave["state"] == "passed" and following < len(rollout["waves"]):
                self._wait_for_devices(rollout["waves"][following]["devices"], version)
            for gate in wave["gates"]:
                if gate["state"] == "failed" or wave["index"] == 0:
                    self.narrator.say(f"    {gate['sentence']}")
        if version in self.facts.canary_days and rollout["state"] == "running":
            begun, _ = self.facts.canary_days[version]
            self.facts.canary_days[version] = (begun, self.today)
        if version == "1.1.0" and rollout["state"] == "completed":
            self.facts.served_110_from = self.facts.served_110_from or self.today
