"""NannyML's estimates without labels, beside what its own data sets give us to estimate from.

Runs in the peers' environment; see `benchmarks.census`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.peers import serve

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


def estimates(request: Any, arrays: Mapping[str, NDArray[Any]]) -> dict[str, Any]:  # noqa: ANN401 — JSON
    """Return estimates per chunk, with NannyML's defaults as documented, and its data where asked for.

    Args:
        request: "census" (CBPE, chunks of 5,000), with reference and analysis rows; "cars", those
            rows alone; {"regression": rows of a chunk} (DLE).
        arrays: of a regression: columns "reference …" and "analysis …".
    """
    if request == "census":
        return _census()
    if request == "cars":
        return _cars()
    return _regression(int(request["regression"]), arrays)


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
    names = [
        "car_age", "km_driven", "price_new", "accident_count", "door_count", "fuel", "transmission",
        "y_pred", "y_true",
    ]  # fmt: skip

    def columns(frame: Any) -> dict[str, list[Any]]:  # noqa: ANN401 — a data frame of theirs
        return {
            name: [x if isinstance(x, str) else float(x) for x in frame[name]] for name in names
        }

    return {"reference": columns(reference), "analysis": columns(analysis.merge(truth, on="id"))}


def _regression(chunk: int, arrays: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    import nannyml as nml
    import pandas as pd

    def frame(part: str) -> Any:  # noqa: ANN401 — a data frame of theirs
        own = {
            name.removeprefix(part): array
            for name, array in arrays.items()
            if name.startswith(part)
        }
        return pd.DataFrame(
            {n: a.astype(object) if a.dtype.kind == "U" else a for n, a in own.items()}
        )

    reference, analysis = frame("reference "), frame("analysis ").drop(columns="y_true")
    estimator = nml.DLE(
        feature_column_names=[name for name in analysis if name != "y_pred"],
        y_pred="y_pred",
        y_true="y_true",
        metrics=["mae", "rmse"],
        chunk_size=chunk,
        tune_hyperparameters=False,
    )
    estimator.fit(reference)
    found = estimator.estimate(analysis).filter(period="analysis").to_df()
    whole = len(analysis) // chunk
    return {m: list(map(float, found[(m, "value")]))[:whole] for m in ("mae", "rmse")}


if __name__ == "__main__":
    serve(estimates)
