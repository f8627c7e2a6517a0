"""Two months of a made-up sensor, as tables: what changes between them is known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from pathlib import Path

ROWS = 3000
HOSTILE = '<script>alert("1")</script>&\'<img src=x onerror=y>'


def month(*, moved: bool = False, rows: int = ROWS, seed: int = 0) -> Any:  # noqa: ANN401 - pandas
    """Return a month; when it moved, temp is warmer, another site counts more, and gap has gaps."""
    dice = np.random.default_rng(seed + 100 * moved)
    shares = [0.3, 0.3, 0.4] if moved else [0.6, 0.3, 0.1]
    return pd.DataFrame(
        {
            "temp": dice.normal(12.0 if moved else 10.0, 3.0, rows),
            "load": dice.gamma(2.0, 2.0, rows).astype(np.float32),
            "floor": dice.integers(0, 6, rows),
            "site": dice.choice(["ewr", "lga", "jfk"], rows, p=shares),
            "open": dice.random(rows) < 0.9,
            "at": pd.Timestamp("2026-01-01") + pd.to_timedelta(dice.integers(0, 2_000_000, rows), "s"),
            "gap": np.where(dice.random(rows) < (0.3 if moved else 0.02), np.nan,
                            dice.normal(size=rows)),
        }
    )  # fmt: skip


def save(table: Any, path: Path) -> Path:  # noqa: ANN401 - pandas
    """Write a table as what the path's suffix says."""
    name = path.name
    if name.endswith((".csv", ".csv.gz")):
        table.to_csv(path, index=False)
    elif name.endswith(".tsv"):
        table.to_csv(path, index=False, sep="\t")
    elif name.endswith(".parquet"):
        table.to_parquet(path)
    elif name.endswith(".feather"):
        table.to_feather(path)
    else:
        arrays = {c: table[c].to_numpy() for c in table if table[c].dtype.kind in "fiub"}
        words = {c: table[c].to_numpy().astype(np.str_) for c in table if c == "site"}
        np.savez(path, **arrays, **words)
    return path
