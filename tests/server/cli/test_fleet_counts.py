"""`whimbrel fleet export` and `fleet drift --html` over a real fleet: what devices counted, as files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.server.conftest import broker, house, running, settings_for, until
from tests.support.device import SimulatedDevice
from tests.support.device import serving as slot_report
from tests.support.page import Reader
from tests.support.web import TOKEN, serving, web
from tests.support.windows import Counter
from whimbrel_core import cli
from whimbrel_core.profile.building.dataset import DatasetProfile
from whimbrel_core.profile.drift.comparing import compare
from whimbrel_core.profile.window import merge
from whimbrel_server.client import FleetClient

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
DAYS = 56  # the warm-up takes 48


def test_what_devices_counted_is_exported_and_reported_to_the_last_row(
    house: House, broker: Broker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = house.publish("1.0.0", window_s=86_400)
    sent = {}

    def adopt(slot: str, wanted: SlotAssignment) -> SlotReport:
        assert wanted.digest == made.digest
        return slot_report(made, slot)

    with (
        running(settings_for(house, broker.port, tmp_path / "server")) as fleet,
        serving(web(fleet, house.repository.directory)) as address,
    ):
        (tmp_path / "token").write_text(TOKEN)

        def run(*words: str) -> int:
            where = ["--server", address, "--token-file", str(tmp_path / "token")]
            return cli.main(["fleet", *words, *where])

        client = FleetClient(address, token=TOKEN)
        devices = {
            name: SimulatedDevice(name, broker.port, fleet_key=house.fleet_key.public, adopt=adopt)
            for name in ("ewr", "lga")
        }
        for device in devices.values():
            device.start()
        until(lambda: len(client.devices()) == 2, "two births")
        until(client.models, "the bundle")

        # Before anything came: said so, and nothing is written.
        assert run("export", "churn", "--format", "json") == 2
        assert "no counts" in capsys.readouterr().err
        assert run("drift", "churn", "--html", str(tmp_path / "early.html")) == 0
        assert "nothing is judged yet" in Reader((tmp_path / "early.html").read_text()).text.lower()
        capsys.readouterr()

        for name in devices:
            client.assign(name, "churn", "churn", "1.0.0")
        until(lambda: all(d.slots for d in client.devices()), "1.0.0")
        counter = Counter(made)
        for day in range(DAYS):
            for name, device in devices.items():
                shift = 1.5 if name == "lga" and day >= DAYS - 5 else 0.0
                start = START_MS + day * DAY_MS
                window = counter.window(start, seconds=86_400, rows=300, shift=shift)
                sent[name, day] = window
                device.put_window(made, window)
        assert all(d.wait_empty(30.0) for d in devices.values())
        until(lambda: client.health().judged_behind == 0, "the judgement")

        # A profile of one device: exactly the windows that it sent.
        target = tmp_path / "lga.wprof"
        assert (
            run("export", "churn", "--subject", "lga", "--format", "wprof", "--out", str(target))
            == 0
        )
        whole = DatasetProfile.decode(target.read_bytes())
        expected = sent["lga", 0]
        for day in range(1, DAYS):
            expected = merge(expected, sent["lga", day])
        assert whole.baseline.window.features == expected.features
        assert whole.rows == DAYS * 300
        reference = DatasetProfile(name="bundle", baseline=made.baseline)
        assert compare(reference, whole).exact

        capsys.readouterr()
        last = str(START_MS // 1000)
        assert run("export", "churn", "--format", "influx", "--tag", "site=a b") == 0
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == DAYS * len(whole.features)
        assert all(r",model=churn," in line and r",site=a\ b," in line for line in lines)
        ends = {line.rpartition(" ")[2] for line in lines}
        assert len(ends) == DAYS
        assert min(ends) > last
        assert run("export", "churn", "--format", "json", "--since", "2025-02-20") == 0
        told = json.loads(capsys.readouterr().out)
        assert [one["rows"] for one in told["periods"]] == [600] * 6, "20 to 25 February"
        assert run("export", "churn", "--format", "prometheus", "--step", "all", "--cells") == 0
        assert f'subject="fleet"}} {2 * DAYS * 300}\n' in capsys.readouterr().out
        assert run("export", "churn", "--format", "parquet") == 2
        assert run("export", "churn", "--subject", "nobody", "--format", "json") == 2
        assert run("export", "churn", "--step", "hour", "--format", "json") == 2
        assert "have no hours" in capsys.readouterr().err

        page = tmp_path / "drift.html"
        assert run("drift", "churn", "--html", str(page)) == 0
        assert str(page) in capsys.readouterr().err
        seen = Reader(page.read_text())
        for said in ("churn 1.0.0", "1 device raised an alarm: lga", "outlined: lga", "alarm",
                     "the signed baseline", "Devices", "Feb 2025"):  # fmt: skip
            assert said in seen.text, said
        client.close()
        for device in devices.values():
            device.close()
