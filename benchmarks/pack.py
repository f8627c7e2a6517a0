"""Packing: a forest of 100 trees and 100,000 reference rows of 20 columns, through the real command.

What a build waits for: from ``whimbrel pack`` to the signed bundle on disk, with what each stage
took, CPU time (on a busy machine, compare that) and the largest process. Two forests: one whose
leaves hold at least 20 rows, as one that is to run on a device should, and with ``--grown`` also
scikit-learn's default, grown until every leaf is pure, which has five times the nodes. Beside them,
in the same run: training it, and skl2onnx's own conversion alone, without any proof. Packages are
byte-compiled, as ``pip`` leaves them. Run it with ``python -m benchmarks.pack``.
"""

from __future__ import annotations

import argparse
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import joblib
import numpy as np
import pandas as pd

from benchmarks._bytecode import keep_bytecode

ROWS, COLUMNS, TREES = 100_000, 20, 100
_STAGE = re.compile(r"^ *([\d.]+) s  (.*)$")


class Packed(NamedTuple):
    """One packing: seconds, and bytes of the largest process and of the bundle."""

    wall_s: float
    cpu_s: float
    peak_bytes: int
    bundle_bytes: int
    stages: dict[str, float]


def whimbrel(*words: object) -> subprocess.CompletedProcess[str]:
    """Run the command as its console script does."""
    code = "import sys; from whimbrel_core import cli; sys.exit(cli.main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, *map(str, words)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


def data() -> tuple[pd.DataFrame, np.ndarray]:
    """Return float32 columns, and a label that some of them explain in part."""
    rng = np.random.default_rng(0)
    names = [f"f{i:02d}" for i in range(COLUMNS)]
    x = pd.DataFrame(rng.normal(size=(ROWS, COLUMNS)).astype(np.float32), columns=names)
    risk = x.f00 + x.f01 * x.f02 + np.sin(2 * x.f03) + rng.normal(size=ROWS)
    return x, (risk > 0).to_numpy()


def pack(root: Path, model: Path) -> Packed:
    """Pack once and read what the command says of its stages."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    done = whimbrel(
        "pack", model, "--allow-pickle", "--reference", root / "data.npz", "--label", "late",
        "--positive", "true", "--name", model.stem, "--version", "1.0.0",
        "--key", root / "keys/bundle.pem", "--out", root, "--timeout", 600,
    )  # fmt: skip
    wall = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun = [(float(m[1]), m[2]) for m in map(_STAGE.match, done.stderr.splitlines()) if m]
    ends = [at for at, _ in begun[1:]] + [wall]
    stages: dict[str, float] = {}
    for (at, line), end in zip(begun, ends, strict=True):
        name = line.partition(": ")[0]
        stages[name] = stages.get(name, 0.0) + end - at
    return Packed(
        wall,
        after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        after.ru_maxrss * 1024,
        (root / f"{model.stem}-1.0.0.whim").stat().st_size,
        stages,
    )


def skl2onnx_s(model: Any) -> float:  # noqa: ANN401 - scikit-learn ships no types
    """Return seconds of the plain conversion, in this process."""
    import skl2onnx
    from skl2onnx.common.data_types import FloatTensorType

    started = time.perf_counter()
    skl2onnx.convert_sklearn(
        model,
        initial_types=[("x", FloatTensorType([None, COLUMNS]))],
        options={id(model): {"zipmap": False}},
        target_opset={"": 18, "ai.onnx.ml": 3},
    )
    return time.perf_counter() - started


def measure(root: Path, name: str, leaf: int, rounds: int) -> None:
    """Train a forest, pack it some times, and print the best round."""
    from sklearn.ensemble import RandomForestClassifier

    x, y = data()
    started = time.perf_counter()
    model = RandomForestClassifier(TREES, min_samples_leaf=leaf, n_jobs=2, random_state=0).fit(x, y)
    trained = time.perf_counter() - started
    nodes = sum(tree.tree_.node_count for tree in model.estimators_)
    path = root / f"{name}.joblib"
    joblib.dump(model, path)
    runs = []
    for _ in range(rounds):
        runs.append(pack(root, path))
        (root / f"{name}-1.0.0.whim").unlink()
    best = min(runs, key=lambda run: run.wall_s)
    print(f"\nforest {name}: {TREES} trees, {nodes:,} nodes, {ROWS:,} rows × {COLUMNS} columns")
    print(f"  whimbrel pack         {best.wall_s:6.1f} s   CPU {best.cpu_s:6.1f} s", end="")
    print(f"   (wall of all rounds: {', '.join(f'{run.wall_s:.1f}' for run in runs)})")
    for stage, seconds in best.stages.items():
        print(f"    {stage:34} {seconds:6.2f} s")
    print(f"  largest process       {best.peak_bytes / 1e6:6.0f} MB")
    print(f"  bundle                {best.bundle_bytes / 1e6:6.1f} MB")
    print(f"  training it           {trained:6.1f} s   on two threads")
    print(f"  skl2onnx alone        {skl2onnx_s(model):6.1f} s   without a proof")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--grown", action="store_true", help="measure a fully grown forest too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        keep_bytecode(root / "bytecode")
        whimbrel("keys", "new", "bundle", "--dir", root / "keys")
        x, y = data()
        np.savez(root / "data.npz", **{name: x[name].to_numpy() for name in x}, late=y)
        measure(root, "leaves-of-20", 20, options.rounds)
        if options.grown:
            measure(root, "fully-grown", 1, options.rounds)


if __name__ == "__main__":
    main()
