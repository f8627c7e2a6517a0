"""Write the golden files of the current format. Run once per format, never again.

python -m tests.core.profile.make_golden
"""

from __future__ import annotations

from pathlib import Path

from tests.core.profile.described import delay_baseline, delays
from tests.core.profile.samples import FLIGHT_SLICES, flight_baseline, flight_rows
from whimbrel_core.profile.building.dataset import DatasetProfile
from whimbrel_core.profile.counting.accumulator import Accumulator
from whimbrel_core.profile.window import encode

GOLDEN = Path(__file__).parent / "golden"

if __name__ == "__main__":
    baseline = flight_baseline(FLIGHT_SLICES)
    accumulator = Accumulator(baseline)
    accumulator.update(flight_rows(7, 500))
    for latency_us in (80.0, 1500.0):
        accumulator.count_request(latency_us)
    accumulator.count_rejected()
    accumulator.count_rejected(mistyped=True)
    for label in ((3, 0, 0), (8, 0, 1, 0b110), (15, 1, 1, 0b010)):
        accumulator.record_label(*label)
    window = accumulator.window(1_357_000_000_000, 1_357_003_600_000)
    (GOLDEN / "baseline-1.bin").write_bytes(baseline.encode())
    (GOLDEN / "window-1.bin").write_bytes(encode(window))
    regression = Accumulator(delay_baseline())
    regression.update(delays(7, 500, together=0.5))
    regression.record_error(12.5, 10.0, 0b1)
    (GOLDEN / "regression-baseline-1.bin").write_bytes(delay_baseline().encode())
    (GOLDEN / "regression-window-1.bin").write_bytes(encode(regression.window(0, 3_600_000)))
    profile = DatasetProfile(
        name="flights.csv",
        baseline=baseline,
        like="flights 1.0.0",
        absent=("pressure",),
        unlike={"hour": "words ('noon') where numbers were"},
        new=("gate",),
        notes=("column 'tail' looks like an id",),
    )
    (GOLDEN / "profile-1.wprof").write_bytes(profile.encode())
