"""Deltas between bundles as they are really made: a model, trained on, packed again.

Each case packs two versions with `whimbrel_packager.pack` and makes the delta that ``whimbrel
publish`` makes. Beside it: what the plain dictionary gives at the level that is usual (3), and what
compressing the new file alone gives. Decoding is the agent's own code, timed in this process, with
the peak of its memory from a process of its own. Every delta is applied and compared, byte for byte.

Networks are numpy's (32-768-768-10, Adam), fine-tuned on shifted data until a share of the int8
weights has changed: that share decides, and is printed. Run it with ``python -m benchmarks.deltas``, and with
words to take only cases that have one of them in their names.
"""

from __future__ import annotations

import itertools
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import zstandard
from onnx import TensorProto, helper, numpy_helper
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier

from whimbrel_packager import pack
from whimbrel_packager.recipe import Recipe
from whimbrel_packager.repository import delta
from whimbrel_packager.signing import keyfiles
from whimbrel_packager.smaller.optimise import Optimise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Array = np.ndarray[Any, Any]
Weights = list[tuple[Array, Array]]
SIZES = (32, 768, 768, 10)
SEED = 0
TARGETS = {"forest, 100 → 110 trees": 0.02, "int8 network, 2% of weights changed": 0.06}


class Case(NamedTuple):
    """Two versions of a model, one after the other, and the data that they know."""

    name: str
    models: tuple[object, object]
    data: tuple[Array, Array]
    optimise: Optimise = Optimise()


def table(rows: int = 5000) -> tuple[Array, Array]:
    """Return data of 20 columns with two classes."""
    rng = np.random.default_rng(SEED)
    x = rng.normal(size=(rows, 20)).astype(np.float32)
    y = x[:, 0] + x[:, 1] * x[:, 2] + rng.normal(size=rows) * 0.5 > 0
    return x, y.astype(int)


def trees() -> Iterator[Case]:
    """Forests and boosters, trained on."""
    x, y = table()
    for name, more in (("forest", {}), ("forest of depth 10", {"max_depth": 10})):
        forest = RandomForestClassifier(100, random_state=SEED, warm_start=True, n_jobs=2, **more)
        first = _copy(forest.fit(x, y))
        forest.set_params(n_estimators=110).fit(x, y)
        yield Case(f"{name}, 100 → 110 trees", (first, forest), (x, y))
    try:
        import lightgbm
    except ImportError:
        print("LightGBM is not installed: left out")
    else:
        settings: dict[str, Any] = {"random_state": SEED, "n_jobs": 2, "verbose": -1}
        booster = lightgbm.LGBMClassifier(n_estimators=200, **settings).fit(x, y)
        longer = lightgbm.LGBMClassifier(n_estimators=30, **settings)
        longer.fit(x, y, init_model=booster)
        yield Case("LightGBM, 200 → 230 rounds", (booster, longer), (x, y))
    more_x, more_y = table(5500)
    histogram = HistGradientBoostingClassifier(max_iter=200, random_state=SEED)
    yield Case(
        "HistGradientBoosting, refit on 10 % more rows",
        (_copy(histogram.fit(x, y)), histogram.fit(more_x, more_y)),
        (x, y),
    )


def networks() -> Iterator[Case]:
    """One network, trained on in several ways."""
    rng = np.random.default_rng(SEED)
    teacher = _fresh(rng)

    def rows(count: int, shift: float) -> tuple[Array, Array]:
        x = (rng.normal(size=(count, SIZES[0])) + shift).astype(np.float32)
        return x, _layers(teacher, x)[-1].argmax(1)

    data = rows(20_000, 0.0)
    shifted = rows(5000, 0.1)
    base = _trained(_fresh(rng), *data, steps=2000, rate=1e-3, rng=rng)
    seen = (shifted[0][:2000], shifted[1][:2000])
    last = _trained(base, *shifted, steps=300, rate=1e-3, rng=rng, last_only=True)
    tuned = {
        rate: _trained(base, *shifted, steps=300, rate=rate, rng=rng)
        for rate in (1e-6, 5e-6, 1e-5, 1e-4)
    }
    yield Case("network, last layer only", (_model(base), _model(last)), seen)
    for rate in (1e-5, 1e-4):
        change = _moved(base, tuned[rate])
        name = f"float32 network, weights moved by {change:.1%}"
        yield Case(name, (_model(base), _model(tuned[rate])), seen)
    int8 = Optimise(precision="int8-dynamic", max_loss={"distance": 1.0})
    for weights in tuned.values():
        name = f"int8 network, {_changed(base, weights):.0%} of weights changed"
        yield Case(name, (_model(base), _model(weights)), seen, int8)


def measure(case: Case, folder: Path, key: Path) -> None:
    """Pack both versions, make the delta, apply it, and print a line."""
    made: list[Path] = []
    for number, model in enumerate(case.models):
        recipe = Recipe(name="model", version=f"1.{number}.0", release=number + 1,
                        optimise=case.optimise)  # fmt: skip
        x, y = case.data
        home = folder / str(number)
        home.mkdir(exist_ok=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made.append(pack(model, x, y, recipe=recipe, key=key, out=home).path)
    old, new = (path.read_bytes() for path in made)
    started = time.perf_counter()
    best = delta.best_of(old, new)
    encoding = time.perf_counter() - started
    assert delta.decode(old, best.data, length=len(new)) == new
    files = [folder / name for name in ("old", "delta", "rebuilt")]
    files[0].write_bytes(old)
    files[1].write_bytes(best.data)
    decoding, memory = _by_an_agent(files, len(new))
    assert files[2].read_bytes() == new
    for path in made:
        path.unlink()
    usual = _dictionary(old, new, 3)
    share = len(best.data) / len(new)
    limit = TARGETS.get(case.name)
    verdict = (
        "" if limit is None else f"  target {limit:.0%}: {'met' if share <= limit else 'MISSED'}"
    )
    print(
        f"{case.name:48}{len(new) / 1e3:8.0f} kB{share:8.2%}{usual / len(new):9.1%}"
        f"{len(zstandard.compress(new, 19)) / len(new):8.1%}   level {best.level}, "
        f"{best.spans:2d} spans{encoding:7.2f} s{decoding * 1e3:8.1f} ms{memory:7.1f} MB{verdict}",
        flush=True,
    )


def _by_an_agent(files: list[Path], length: int) -> tuple[float, float]:
    """Return seconds of the best of five, and MB of memory above that of doing nothing."""
    # Not ru_maxrss, which begins with the peak of the process that forked.
    program = (
        "import sys, time, pathlib, re\n"
        "from whimbrel_agent.update import delta\n"
        "import zstandard\n"
        "def peak():\n"
        "    told = pathlib.Path('/proc/self/status').read_text()\n"
        "    return int(re.search(r'VmHWM:\\s+(\\d+)', told)[1]) * 1024 / 1e6\n"
        "files = [pathlib.Path(p) for p in sys.argv[1:4]]\n"
        "pathlib.Path('/proc/self/clear_refs').write_text('5')\n"
        "before, times = peak(), []\n"
        "for _ in range(int(sys.argv[5])):\n"
        "    began = time.perf_counter()\n"
        "    delta.rebuild(*files, length=int(sys.argv[4]))\n"
        "    times.append(time.perf_counter() - began)\n"
        "print(min(times), peak() - before)\n"
    )
    told = [
        subprocess.run(
            [sys.executable, "-c", program, *map(str, files), str(length), str(rounds)],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.split()
        for rounds in (5, 1)
    ]
    return float(told[0][0]), float(told[1][1])


def _dictionary(old: bytes, new: bytes, level: int) -> int:
    known = zstandard.ZstdCompressionDict(old, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    return len(zstandard.ZstdCompressor(level=level, dict_data=known).compress(new))


def _copy(model: Any) -> Any:  # noqa: ANN401 - scikit-learn has no types
    import copy

    return copy.deepcopy(model)


def _fresh(rng: np.random.Generator) -> Weights:
    return [
        ((rng.normal(size=(a, b)) * np.sqrt(2 / a)).astype(np.float32), np.zeros(b, np.float32))
        for a, b in itertools.pairwise(SIZES)
    ]


def _layers(weights: Weights, x: Array) -> list[Array]:
    found = [x]
    for number, (w, b) in enumerate(weights):
        x = x @ w + b
        found.append(x if number == len(weights) - 1 else np.maximum(x, 0))
        x = found[-1]
    return found


def _trained(
    weights: Weights,
    x: Array,
    y: Array,
    *,
    steps: int,
    rate: float,
    rng: np.random.Generator,
    last_only: bool = False,
    batch: int = 64,
) -> Weights:
    """Return weights after some steps of Adam on the cross-entropy."""
    now = [list(layer) for layer in weights]
    first = [[np.zeros_like(p) for p in layer] for layer in now]
    second = [[np.zeros_like(p) for p in layer] for layer in now]
    for step in range(1, steps + 1):
        chosen = rng.integers(0, len(x), batch)
        found = _layers([(w, b) for w, b in now], x[chosen])
        scores = np.exp(found[-1] - found[-1].max(1, keepdims=True))
        slope = scores / scores.sum(1, keepdims=True)
        slope[np.arange(batch), y[chosen]] -= 1
        slope /= batch
        for number in reversed(range(len(now))):
            slopes = (found[number].T @ slope, slope.sum(0))
            slope = (slope @ now[number][0].T) * (found[number] > 0)
            if last_only and number < len(now) - 1:
                continue
            for k, gradient in enumerate(slopes):
                m, v = first[number], second[number]
                m[k] = 0.9 * m[k] + 0.1 * gradient
                v[k] = 0.999 * v[k] + 0.001 * gradient**2
                move = m[k] / (1 - 0.9**step) / (np.sqrt(v[k] / (1 - 0.999**step)) + 1e-8)
                now[number][k] = (now[number][k] - rate * move).astype(np.float32)
    return [(w, b) for w, b in now]


def _model(weights: Weights) -> object:
    nodes, tensors, current = [], [], "x"
    for number, (w, b) in enumerate(weights):
        tensors += [
            numpy_helper.from_array(np.ascontiguousarray(w), f"w{number}"),
            numpy_helper.from_array(b, f"b{number}"),
        ]
        nodes.append(helper.make_node("MatMul", [current, f"w{number}"], [f"m{number}"]))
        nodes.append(helper.make_node("Add", [f"m{number}", f"b{number}"], [f"z{number}"]))
        current = f"z{number}"
        if number < len(weights) - 1:
            nodes.append(helper.make_node("Relu", [current], [f"h{number}"]))
            current = f"h{number}"
    nodes.append(helper.make_node("Softmax", [current], ["probabilities"]))
    graph = helper.make_graph(
        nodes,
        "main",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, SIZES[0]])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, SIZES[-1]])],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return model


def _moved(old: Weights, new: Weights) -> float:
    """Return the mean movement of a weight as a share of the mean weight."""
    moves = [
        np.abs(b[0] - a[0]).mean() / np.abs(a[0]).mean() for a, b in zip(old, new, strict=True)
    ]
    return float(np.mean(moves))


def _changed(old: Weights, new: Weights) -> float:
    """Return the share of weights that are another int8 number, each with its own scale."""
    same, count = 0, 0
    for (before, _), (after, _) in zip(old, new, strict=True):
        numbers = [np.round(w / (np.abs(w).max() / 127)) for w in (before, after)]
        same += int(np.sum(numbers[0] == numbers[1]))
        count += before.size
    return 1 - same / count


def main(wanted: list[str]) -> None:
    yardstick: Callable[[], bytes] = lambda: zstandard.compress(bytes(8 << 20), 3)  # noqa: E731
    began = time.perf_counter()
    yardstick()
    print(f"8 MB of zeros at level 3: {(time.perf_counter() - began) * 1e3:.1f} ms")
    print(f"{'case':48}{'new file':>11}{'delta':>8}{'level 3':>9}{'alone':>8}   how"
          f"{'made':>24}{'applied':>11}{'memory':>10}")  # fmt: skip
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        keyfiles.create(folder / "keys", "bundle")
        for cases in (trees(), networks()):
            for case in cases:
                if wanted and not any(word in case.name for word in wanted):
                    continue
                measure(case, folder, folder / "keys" / "bundle.pem")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    print(f"peak memory of this process: {peak:.0f} MB")


if __name__ == "__main__":
    main(sys.argv[1:])
