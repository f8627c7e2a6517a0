"""The web over the real fleet: real broker, real bundles, real windows; every page and read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import msgspec
import pytest

from tests.server.conftest import broker, house, running, settings_for, until
from tests.server.web.test_pages import Reader
from tests.support.device import SimulatedDevice
from tests.support.device import serving as slot_report
from tests.support.web import TOKEN, serving, web
from tests.support.windows import Counter
from whimbrel_server.client import FleetClient
from whimbrel_server.views.rollouts import RolloutSpec, Wave

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.broker import Broker
    from tests.support.house import House
    from whimbrel_core.wire.assignment import SlotAssignment
    from whimbrel_core.wire.messages import SlotReport

__all__ = ["broker", "house"]
pytestmark = [pytest.mark.needs("mosquitto")]
START_MS = 1_735_689_600_000
DAY_MS = 86_400_000
DAYS = 60  # beyond the 48 windows of the warm-up


def test_pages_and_interface_show_what_devices_sent(
    house: House, broker: Broker, tmp_path: Path
) -> None:
    made = house.publish("1.0.0", window_s=86_400)
    other = house.publish("1.1.0", window_s=86_400)
    bundles = {made.digest: made, other.digest: other}

    def adopt(slot: str, wanted: SlotAssignment) -> SlotReport:
        return slot_report(bundles[wanted.digest], slot)

    with (
        running(settings_for(house, broker.port, tmp_path / "server")) as fleet,
        serving(web(fleet, house.repository.directory)) as address,
    ):
        client = FleetClient(address, token=TOKEN, actor="ada")
        devices = {
            name: SimulatedDevice(name, broker.port, fleet_key=house.fleet_key.public, adopt=adopt)
            for name in ("ewr", "lga")
        }
        for device in devices.values():
            device.start()
        until(lambda: len(client.devices()) == 2, "two births")
        until(lambda: client.models() and len(client.model("churn").versions) == 2, "the bundles")
        client.label("lga", {"ring": "canary"})
        for name in devices:
            client.assign(name, "churn", "churn", "1.0.0")
        until(
            lambda: all(d.slots and d.slots[0].version == "1.0.0" for d in client.devices()),
            "1.0.0",
        )
        counter = Counter(made)
        for day in range(DAYS):
            for name, device in devices.items():
                shift = 1.5 if name == "lga" and day >= DAYS - 9 else 0.0
                start = START_MS + day * DAY_MS
                window = counter.window(start, seconds=86_400, rows=300, shift=shift, labels=True)
                device.put_window(made, window)
        devices["lga"].put_event("drift", START_MS + DAYS * DAY_MS)
        assert all(d.wait_empty(30.0) for d in devices.values())
        until(lambda: client.health().judged_behind == 0, "the judgement")

        assert {c.device: c.windows for c in client.counts()} == {"ewr": DAYS, "lga": DAYS}
        assert sum(c.lost + c.duplicate for c in client.counts() if c.lost) == 0
        worst = client.drift("churn", "1.0.0", "device", "lga")[0]
        assert worst.worst in {"warn", "severe"}
        assert client.device("lga").worst_state in {"warn", "severe"}
        assert client.alerts("open"), "a shift of one and a half deviations is an alarm"
        wave = Wave(labels={"ring": "canary"})
        spec = RolloutSpec(slot="churn", model="churn", version="1.1.0", waves=(wave, Wave()))
        number = client.start_rollout(spec).id
        until(lambda: client.device("lga").slots[0].version == "1.1.0", "the canary")
        assert client.rollout(number).waves[0].devices == ("lga",)
        assert client.audit()[0].action

        http = httpx.Client(base_url=address, trust_env=False)
        for path in (
            "/",
            "/models",
            "/models/churn",
            "/models/churn?version=1.0.0&subject=lga&step=day",
            "/models/churn?version=1.0.0&subject=ring%3Dcanary",
            "/models/churn?version=1.1.0",
            "/devices/lga",
            "/devices/ewr",
            "/rollouts",
            f"/rollouts/{number}",
        ):
            answer = http.get(path)
            assert answer.status_code == 200, (path, answer.text)
            assert Reader(answer.text).faults == [], path
            twin = "/fleet.json" if path == "/" else path.replace("?", ".json?", 1)
            twin += "" if ".json" in twin else ".json"
            assert http.get(twin).status_code == 200, twin
        page = msgspec.json.decode(http.get("/models/churn.json?version=1.0.0&subject=lga").content)
        assert len(page["heat"]["columns"]) == DAYS
        assert page["drift"]["subject"] == "lga"
        assert page["drift"]["rows"] == 28 * 300, "the period of the histograms is what is judged"
        assert {h["rows"] for h in page["histograms"]} == {28 * 300}
        assert page["drift"]["features"][0]["state"] in {"warn", "severe"}
        assert page["histograms"]
        assert page["quality"]["1.0.0"]
        rollout = http.get(f"/rollouts/{number}.json").json()
        assert any("ada" in line["actor"] for line in rollout["log"])
        series = http.get("/api/v1/models/churn/series?version=1.0.0&device=lga").json()
        assert all(len(points) == DAYS for points in series.values())
        timestamp = http.get("/repository/metadata/timestamp.json", headers={"range": "bytes=0-1"})
        assert (timestamp.status_code, timestamp.content[:1]) == (206, b"{")
        metrics = http.get("/metrics").text
        assert f'whimbrel_ingest_windows_total{{device="lga"}} {DAYS}.0' in metrics
        http.close()
        client.close()
        for device in devices.values():
            device.close()


def test_an_empty_real_fleet_has_every_page(house: House, broker: Broker, tmp_path: Path) -> None:
    with (
        running(settings_for(house, broker.port, tmp_path / "server")) as fleet,
        serving(web(fleet, house.repository.directory)) as address,
        httpx.Client(base_url=address, trust_env=False) as http,
    ):
        for path in ("/", "/models", "/rollouts", "/fleet.json", "/api/v1/health", "/metrics"):
            answer = http.get(path)
            assert answer.status_code in {200, 503}, (path, answer.text)
        for path in ("/devices/nix", "/models/nix", "/rollouts/1"):
            assert http.get(path).status_code == 404


def test_a_device_is_enrolled_by_the_real_authority(
    house: House, broker: Broker, tmp_path: Path
) -> None:
    from cryptography import x509

    from tests.server.cli.test_fleet_commands import OUT_FILES
    from tests.support import server_process
    from whimbrel_core import cli

    token = tmp_path / "token"
    token.write_text(server_process.TOKEN)
    out = tmp_path / "till-4"
    server = server_process.ServerProcess(house, tmp_path / "server", broker.port).start()
    try:
        shared = ["--server", server.url, "--token-file", str(token)]
        arguments = ["fleet", "enrol", "till-4", "--out", str(out), "--label", "site=n"]
        assert cli.main([*arguments, *shared]) == 0
        assert cli.main(["fleet", "devices", "till-4", *shared]) == 0
        assert httpx.get(server.url + "/devices/till-4", trust_env=False).status_code == 200
    finally:
        server.stop()
    assert {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()} == OUT_FILES
    certificate = x509.load_pem_x509_certificate((out / "device.crt").read_bytes())
    authority = x509.load_pem_x509_certificate((out / "ca.crt").read_bytes())
    certificate.verify_directly_issued_by(authority)
    assert certificate.subject.rfc4514_string() == "CN=till-4"
