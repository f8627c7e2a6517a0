"""The verdicts of evidently and whylogs on given windows, by their own default rules.

Runs in the peers' environment; see `benchmarks.peers.rules`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.peers import serve

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


def verdicts(_: object, arrays: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """Return score and drift per column of ``reference`` (n, C) and ``window`` (m, C)."""
    import pandas as pd
    from evidently import Report
    from evidently.presets import DataDriftPreset
    from whylogs.core import DatasetProfile
    from whylogs.viz.drift.column_drift_algorithms import calculate_drift_scores

    names = [f"c{i}" for i in range(arrays["reference"].shape[1])]
    reference = pd.DataFrame(arrays["reference"], columns=names)
    window = pd.DataFrame(arrays["window"], columns=names)
    ran = Report([DataDriftPreset()], include_tests=True).run(window, reference).dict()
    found = {
        metric["config"]["column"]: metric
        for metric in ran["metrics"]
        if "column" in metric["config"]
    }
    failed = {
        test["metric_config"]["params"].get("column"): test["status"] == "FAIL"
        for test in ran["tests"]
    }
    profiles = []
    for frame in (window, reference):
        profile = DatasetProfile()
        profile.track(frame)
        profiles.append(profile.view())
    scores = calculate_drift_scores(profiles[0], profiles[1], with_thresholds=True)
    return {
        "evidently": [float(found[name]["value"]) for name in names],
        "evidently_method": [found[name]["config"]["method"] for name in names],
        "evidently_drift": [bool(failed[name]) for name in names],
        "evidently_dataset": bool(failed[None]),
        "whylogs": [float(scores[name]["pvalue"]) for name in names],
        "whylogs_statistic": [float(scores[name]["statistic"]) for name in names],
        "whylogs_drift": [scores[name]["drift_category"] == "DRIFT" for name in names],
    }


if __name__ == "__main__":
    serve(verdicts)
