"""Distances from whylogs' sketches of quantiles, merged over devices. Runs in the peers' environment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.peers import serve

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


def distances(request: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """Return psi, js, ks and w1 / sd of merged sketches.

    Args:
        request: "merges": numbers of devices; "rows": rows of one device.
        arrays: "reference" (n, D) and "window" (devices · rows, D).

    Returns:
        Per number of devices and column: [psi, js, ks, w1_sd].
    """
    import numpy as np
    from whylogs.core.metrics import DistributionMetric
    from whylogs.core.metrics.metrics import MetricConfig
    from whylogs.core.preprocessing import PreprocessedColumn

    def counted(values: NDArray[Any]) -> Any:  # noqa: ANN401 — their metric
        metric = DistributionMetric.zero(MetricConfig())
        metric.columnar_update(PreprocessedColumn.apply(values.astype(float)))
        return metric

    grid = (np.arange(2000) + 0.5) / 2000
    reference = [counted(column).kll.value for column in arrays["reference"].T]
    deciles = [sorted(set(one.get_quantiles(list(np.arange(1, 10) / 10)))) for one in reference]
    at_grid = [np.array(one.get_quantiles(list(grid))) for one in reference]
    sds = arrays["reference"].astype(float).std(axis=0)
    rows = request["rows"]
    found: dict[str, list[list[float]]] = {str(devices): [] for devices in request["merges"]}
    for column, one in enumerate(reference):
        merged = None
        for device in range(max(request["merges"])):
            part = counted(arrays["window"][device * rows : (device + 1) * rows, column])
            merged = part if merged is None else merged.merge(part)
            if device + 1 not in request["merges"]:
                continue
            sketch = merged.kll.value
            p, q = (np.array(s.get_pmf(deciles[column])) for s in (one, sketch))
            p, q = np.maximum(p, 0.5 / one.get_n()), np.maximum(q, 0.5 / sketch.get_n())
            psi = ((q - p) * np.log(q / p)).sum() - (len(p) - 1) * (
                1 / one.get_n() + 1 / sketch.get_n()
            )
            middle = (p + q) / 2
            js = (p * np.log2(p / middle) + q * np.log2(q / middle)).sum() / 2
            quantiles = np.array(sketch.get_quantiles(list(grid)))
            points = np.unique(np.concatenate([quantiles, at_grid[column]]))
            gap = np.array(sketch.get_cdf(list(points))) - np.array(one.get_cdf(list(points)))
            w1 = np.abs(quantiles - at_grid[column]).mean() / sds[column]
            found[str(device + 1)].append(
                [max(psi, 0.0), max(js, 0.0) ** 0.5, np.abs(gap).max(), w1]
            )
    return found


if __name__ == "__main__":
    serve(distances)
