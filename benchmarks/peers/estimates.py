"""NannyML's estimates without labels, beside what its own data sets give us to estimate from.

Runs in the peers' environment; see `benchmarks.census`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.peers import serve

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


def estimates(request: str, _: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """Return reference and analysis rows with labels, and estimates per chunk, as documented.

    Args:
        request: "census" (CBPE, chunks of 5,000) or "cars" (DLE, chunks of 6,000).
    """
    return _census() if request == "census" else _cars()


def _census() -> dict[str, Any]:
    import nannyml as nml

    reference, analysis, truth = nml.load_us_census_ma_employment_data()
    estimator = nml.CBPE(
        problem_type="classification_binary",
        y_pred_proba="predicted_probability",
        y_pred="prediction",
        y_true="employed",
        metrics=["roc_auc", "accuracy"],
        chunk_size=5000,
    )
    estimator.fit(reference)
    found = estimator.estimate(analysis).filter(period="analysis").to_df()
    whole = analysis.merge(truth, on="id") if "id" in truth else analysis.join(truth)
    return {
        "version": nml.__version__,
        "starts": [int(i) for i in found[("chunk", "start_index")]],
        "ends": [int(i) + 1 for i in found[("chunk", "end_index")]],
        "estimated": {m: list(map(float, found[(m, "value")])) for m in ("accuracy", "roc_auc")},
        "reference": {
            "score": list(map(float, reference["predicted_probability"])),
            "predicted": list(map(int, reference["prediction"])),
            "label": list(map(int, reference["employed"])),
        },
        "analysis": {
            "score": list(map(float, whole["predicted_probability"])),
            "predicted": list(map(int, whole["prediction"])),
            "label": list(map(int, whole["employed"])),
        },
    }


def _cars() -> dict[str, Any]:
    import nannyml as nml

    reference, analysis, truth = nml.load_synthetic_car_price_dataset()
    features = [
        "car_age", "km_driven", "price_new", "accident_count", "door_count", "fuel", "transmission",
    ]  # fmt: skip
    estimator = nml.DLE(
        feature_column_names=features,
        y_pred="y_pred",
        y_true="y_true",
        timestamp_column_name="timestamp",
        metrics=["mae", "rmse"],
        chunk_size=6000,
        tune_hyperparameters=False,
    )
    estimator.fit(reference)
    found = estimator.estimate(analysis).filter(period="analysis").to_df()
    whole = analysis.merge(truth, on="id")

    def columns(frame: Any) -> dict[str, list[Any]]:  # noqa: ANN401 — a data frame of theirs
        names = ["y_pred", "y_true", *features]
        return {
            name: [x if isinstance(x, str) else float(x) for x in frame[name]] for name in names
        }

    return {
        "version": nml.__version__,
        "starts": [int(i) for i in found[("chunk", "start_index")]],
        "ends": [int(i) + 1 for i in found[("chunk", "end_index")]],
        "estimated": {m: list(map(float, found[(m, "value")])) for m in ("mae", "rmse")},
        "reference": columns(reference),
        "analysis": columns(whole),
    }


if __name__ == "__main__":
    serve(estimates)
