"""Small real models in real signed bundles, made with `onnx.helper` alone.

Every kind is a function of its seed, so that a test may say what it will answer.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

from whimbrel_core.bundle import bundle, parity
from whimbrel_core.bundle.manifest import (
    DriftPolicy,
    Manifest,
    ModelFile,
    Output,
    Parity,
    Requirements,
    Source,
    Tensor,
)
from whimbrel_core.identity import sha256
from whimbrel_core.profile.building import reference
from whimbrel_core.profile.building.columns import ColumnSpec
from whimbrel_core.signing.keys import PrivateKey

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from whimbrel_core.profile.baseline import Baseline
    from whimbrel_core.profile.slices import Slice

OPSETS = {"": 17, "ai.onnx.ml": 3}
IR_VERSION = 8
REFERENCE_ROWS = 2000
TRAP = 7777
CARRIERS = ("AA", "B6", "DL", "UA")
_ONNX = {
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "INT64": TensorProto.INT64,
    "INT32": TensorProto.INT32,
    "BOOL": TensorProto.BOOL,
    "BYTES": TensorProto.STRING,
}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A model and rows that it was "trained" on."""

    model: bytes
    inputs: tuple[Tensor, ...]
    outputs: tuple[Output, ...]
    rows: dict[str, NDArray[Any]]
    task: str = "classification"
    classes: tuple[str, ...] = ("0", "1")
    positive: int | None = 1
    score_tensor: str | None = "probabilities"
    labels: NDArray[Any] | None = None
    slices: tuple[Slice, ...] = ()


@dataclasses.dataclass(frozen=True)
class MadeBundle:
    """A signed bundle on disk."""

    path: Path
    key: PrivateKey
    digest: str
    manifest: Manifest
    baseline: Baseline
    recipe: Recipe

    @property
    def pem(self) -> str:
        """The public key that verifies it."""
        return self.key.public.pem


def build_bundle(
    folder: Path,
    recipe: Recipe | None = None,
    *,
    name: str = "churn",
    version: str = "1.0.0",
    release: int = 1,
    key: PrivateKey | None = None,
    window_s: int = 300,
    min_rows: int = 100,
    warmup_windows: int = 48,
    requirements: Requirements | None = None,
    store: bool = False,
) -> MadeBundle:
    """Write ``<name>-<version>.whim`` (or ``<digest>.whim`` for a store) into ``folder``."""
    recipe = recipe or logistic()
    key = key or PrivateKey.generate()
    session = ort.InferenceSession(recipe.model, providers=["CPUExecutionProvider"])
    names = [output.name for output in recipe.outputs]
    answers = dict(zip(names, session.run(names, recipe.rows), strict=True))
    baseline = _baseline(recipe, answers)
    first = {tensor: array[:16] for tensor, array in recipe.rows.items()}
    vectors = parity.ParityVectors(
        first, {tensor: np.asarray(a[:16]) for tensor, a in answers.items()}, 1e-5, 1e-6
    )
    manifest = Manifest(
        format=1,
        name=name,
        version=version,
        release=release,
        task="regression" if recipe.task == "regression" else "classification",
        model=ModelFile("model.onnx", len(recipe.model), dict(OPSETS), IR_VERSION),
        inputs=recipe.inputs,
        outputs=recipe.outputs,
        profile_id=baseline.profile_id,
        source=Source("onnx", onnx.__version__, "hand-made", "none", "0"),
        parity=Parity(rows=16, cases={"real": 16}, rtol=1e-5, atol=1e-6, max_abs_error=0.0),
        classes=recipe.classes,
        positive=recipe.positive,
        requirements=requirements or Requirements(),
        drift=DriftPolicy(window_s=window_s, min_rows=min_rows, warmup_windows=warmup_windows),
    )
    data = bundle.build(
        {
            "manifest.json": manifest.encode(),
            "model.onnx": recipe.model,
            "baseline.bin": baseline.encode(),
            "parity.npz": parity.encode(vectors),
            "sbom.cdx.json": b"{}",
            "provenance.json": b"{}",
            "card.md": b"# A model for tests\n",
        },
        key,
    )
    digest = str(sha256(data))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (f"{digest}.whim" if store else f"{manifest.title}.whim")
    path.write_bytes(data)
    return MadeBundle(path, key, digest, manifest, baseline, recipe)


def logistic(features: int = 20, *, seed: int = 0, sign: float = 1.0) -> Recipe:
    """Return a logistic regression; ``sign=-1`` answers the opposite of what is right."""
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=features).astype(np.float32)
    rows = rng.normal(size=(REFERENCE_ROWS, features)).astype(np.float32)
    truth = (rows @ weights + rng.logistic(size=REFERENCE_ROWS) > 0).astype(np.int64)
    node = helper.make_node(
        "LinearClassifier",
        ["x"],
        ["label", "probabilities"],
        domain="ai.onnx.ml",
        classlabels_ints=[0, 1],
        coefficients=[float(v) for v in (-sign * weights, sign * weights) for v in v],
        intercepts=[0.0, 0.0],
        post_transform="SOFTMAX",
    )
    inputs = (Tensor("x", "FP32", (-1, features)),)
    outputs = (
        Output("label", "INT64", (-1,), "label"),
        Output("probabilities", "FP32", (-1, 2), "probabilities"),
    )
    return Recipe(_model([node], inputs, outputs), inputs, outputs, {"x": rows}, labels=truth)


def mixed() -> Recipe:
    """Return a classifier over one input per column: numbers, an integer and a string."""
    rng = np.random.default_rng(1)
    rows: dict[str, NDArray[Any]] = {
        "wind": rng.gamma(2.0, 4.0, (REFERENCE_ROWS, 1)).astype(np.float32),
        "hour": rng.integers(5, 24, (REFERENCE_ROWS, 1)).astype(np.int64),
        "carrier": rng.choice(np.array(CARRIERS, dtype=object), (REFERENCE_ROWS, 1)),
    }
    inputs = (
        Tensor("wind", "FP32", (-1, 1)),
        Tensor("hour", "INT64", (-1, 1)),
        Tensor("carrier", "BYTES", (-1, 1)),
    )
    outputs = (
        Output("label", "BYTES", (-1,), "label"),
        Output("probabilities", "FP32", (-1, 2), "probabilities"),
    )
    late = [0.05, 0.1, -0.5, 0.3, 0.0, 0.2]
    nodes = [
        helper.make_node("Cast", ["hour"], ["hour_f"], to=TensorProto.FLOAT),
        helper.make_node(
            "OneHotEncoder", ["carrier"], ["hot"], domain="ai.onnx.ml", cats_strings=list(CARRIERS)
        ),
        helper.make_node("Constant", [], ["flat"], value_ints=[0, len(CARRIERS)]),
        helper.make_node("Reshape", ["hot", "flat"], ["hot_flat"]),
        helper.make_node("Concat", ["wind", "hour_f", "hot_flat"], ["x"], axis=1),
        helper.make_node(
            "LinearClassifier",
            ["x"],
            ["label", "probabilities"],
            domain="ai.onnx.ml",
            classlabels_strings=["on_time", "late"],
            coefficients=[-v for v in late] + late,
            intercepts=[1.0, -1.0],
            post_transform="SOFTMAX",
        ),
    ]
    return Recipe(
        _model(nodes, inputs, outputs), inputs, outputs, rows, classes=("on_time", "late")
    )


def regression() -> Recipe:
    """Return y = 2a − b over FP64 inputs."""
    rng = np.random.default_rng(2)
    rows: dict[str, NDArray[Any]] = {
        "a": rng.normal(size=(REFERENCE_ROWS, 1)),
        "b": rng.normal(size=(REFERENCE_ROWS, 1)),
    }
    inputs = (Tensor("a", "FP64", (-1, 1)), Tensor("b", "FP64", (-1, 1)))
    outputs = (Output("y", "FP64", (-1, 1), "value"),)
    nodes = [
        helper.make_node("Add", ["a", "a"], ["twice"]),
        helper.make_node("Sub", ["twice", "b"], ["y"]),
    ]
    return Recipe(
        _model(nodes, inputs, outputs),
        inputs,
        outputs,
        rows,
        task="regression",
        classes=(),
        positive=None,
        score_tensor=None,
    )


def fragile() -> Recipe:
    """Return a model that looks its answer up, and fails at run for an index beyond 9."""
    rng = np.random.default_rng(3)
    rows: dict[str, NDArray[Any]] = {"i": rng.integers(0, 10, (REFERENCE_ROWS, 1))}
    inputs = (Tensor("i", "INT64", (-1, 1)),)
    outputs = (Output("y", "FP32", (-1, 1), "value"),)
    table = helper.make_tensor("table", TensorProto.FLOAT, [10], [float(v) for v in range(10)])
    nodes = [
        helper.make_node("Constant", [], ["values"], value=table),
        helper.make_node("Gather", ["values", "i"], ["y"], axis=0),
    ]
    return Recipe(
        _model(nodes, inputs, outputs),
        inputs,
        outputs,
        rows,
        task="regression",
        classes=(),
        positive=None,
        score_tensor=None,
    )


def network(width: int = 1024, *, features: int = 20) -> Recipe:
    """Return a dense network of about ``width``² parameters: its rows are cheaper in company."""
    rng = np.random.default_rng(4)
    rows = rng.normal(size=(REFERENCE_ROWS, features)).astype(np.float32)
    inputs = (Tensor("x", "FP32", (-1, features)),)
    outputs = (Output("y", "FP32", (-1, 1), "value"),)
    sizes = [(features, width), (width, width), (width, 1)]
    nodes, weights, last = [], [], "x"
    for layer, (rows_in, columns) in enumerate(sizes):
        values = (rng.normal(size=(rows_in, columns)) / np.sqrt(rows_in)).astype(np.float32)
        weights.append(
            helper.make_tensor(
                f"w{layer}", TensorProto.FLOAT, values.shape, values.tobytes(), raw=True
            )
        )
        end = layer == len(sizes) - 1
        nodes.append(helper.make_node("MatMul", [last, f"w{layer}"], ["y" if end else f"m{layer}"]))
        if not end:
            nodes.append(helper.make_node("Relu", [f"m{layer}"], [f"h{layer}"]))
            last = f"h{layer}"
    return Recipe(
        _model(nodes, inputs, outputs, weights),
        inputs,
        outputs,
        {"x": rows},
        task="regression",
        classes=(),
        positive=None,
        score_tensor=None,
    )


def _model(
    nodes: list[onnx.NodeProto],
    inputs: tuple[Tensor, ...],
    outputs: tuple[Output, ...],
    weights: list[onnx.TensorProto] | None = None,
) -> bytes:
    def info(tensor: Tensor | Output) -> onnx.ValueInfoProto:
        shape = [None if size < 0 else size for size in tensor.shape]
        return helper.make_tensor_value_info(tensor.name, _ONNX[tensor.datatype], shape)

    graph = helper.make_graph(
        nodes, "graph", [info(t) for t in inputs], [info(t) for t in outputs], weights or []
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid(domain, v) for domain, v in OPSETS.items()],
        ir_version=IR_VERSION,
    )
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _baseline(recipe: Recipe, answers: dict[str, NDArray[Any]]) -> Baseline:
    columns = []
    tensors: list[tuple[str, str, NDArray[Any]]] = [
        *(("input", tensor, array) for tensor, array in recipe.rows.items()),
        *(("output", tensor, np.asarray(array)) for tensor, array in answers.items()),
    ]
    for role, tensor, array in tensors:
        flat = array.reshape(len(array), -1)
        columns += [
            ColumnSpec(
                name=tensor if flat.shape[1] == 1 else f"{tensor}{column}",
                role="input" if role == "input" else "output",
                tensor=tensor,
                column=column,
                values=flat[:, column],
            )
            for column in range(flat.shape[1])
        ]
    scored = recipe.score_tensor is not None and recipe.labels is not None
    regression = recipe.task == "regression" and recipe.labels is not None
    return reference.build(
        columns,
        task="regression" if recipe.task == "regression" else "classification",
        classes=recipe.classes,
        positive=recipe.positive,
        score_tensor=recipe.score_tensor,
        slices=recipe.slices,
        labels=recipe.labels if scored or regression else None,
        scores=answers[recipe.score_tensor] if scored and recipe.score_tensor else None,
    )


def trapping(*, seed: int = 0) -> Recipe:
    """Return a classifier that ends its process by a real SIGFPE where ``x[0]`` is `TRAP`.

    The least 64-bit integer divided by -1 has no result, which an x86 processor answers with a
    trap, and the runtime does not guard against.
    """
    return _trapping(seed, at_load=False)


def crash_at_load(made: MadeBundle, folder: Path) -> MadeBundle:
    """Return ``made`` with a model inside, validly signed, that ends who loads it by a SIGFPE."""
    return replace_model(made, folder, _trapping(0, at_load=True).model)


def replace_model(made: MadeBundle, folder: Path, model: bytes) -> MadeBundle:
    """Return ``made`` with other model bytes, signed by the same key."""
    with made.path.open("rb") as file:
        opened = bundle.open_bundle(file, [made.key.public])
        files = {name: opened.read(name) for name in opened.names}
    files.pop("model.sig", None)
    files["model.onnx"] = model
    data = bundle.build(files, made.key)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / made.path.name
    path.write_bytes(data)
    return dataclasses.replace(made, path=path, digest=str(sha256(data)))


def _trapping(seed: int, *, at_load: bool) -> Recipe:
    good = logistic(seed=seed)
    model = onnx.load_from_string(good.model)
    graph = model.graph
    graph.node[0].input[0] = "safe"
    least = np.array([-(2**63)], dtype=np.int64)
    constants = {"least": least, "trap": np.array([TRAP + 1], dtype=np.int64)}
    constants |= {"minus_one": np.array([-1], dtype=np.int64), "none": np.zeros(1, np.float32)}
    made = {name: helper.make_tensor(name, *_flat(array)) for name, array in constants.items()}
    graph.initializer.extend(made.values())
    nodes = [
        helper.make_node("Cast", ["x"], ["x_int"], to=TensorProto.INT64),
        helper.make_node("Sub", ["x_int", "trap"], ["beside"]),
        helper.make_node("Div", ["least", "minus_one" if at_load else "beside"], ["quotient"]),
        helper.make_node("Cast", ["quotient"], ["quotient_f"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["quotient_f", "none"], ["nothing"]),
        helper.make_node("Add", ["x", "nothing"], ["safe"]),
    ]
    for place, node in enumerate(nodes):
        graph.node.insert(place, node)
    return dataclasses.replace(good, model=model.SerializeToString())


def _flat(array: NDArray[Any]) -> tuple[int, list[int], list[Any]]:
    kind = TensorProto.INT64 if array.dtype == np.int64 else TensorProto.FLOAT
    return int(kind), list(array.shape), array.tolist()
