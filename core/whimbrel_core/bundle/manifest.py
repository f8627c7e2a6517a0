"""The signed manifest: what a bundle is, what it needs, and how it was proven.

Identity is here and nowhere else: a renamed file is still the same bundle. Fields are only ever
added, with defaults; a reader refuses a newer ``format`` and ignores fields it does not know,
so that an old agent can still read a bundle made by a newer packager of the same format.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from whimbrel_core import identity
from whimbrel_core.canonical import canonical_json
from whimbrel_core.errors import BundleError

FORMAT = 1
Datatype = Literal[
    "BOOL", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "FP32", "FP64", "BYTES"
]
Task = Literal["classification", "regression"]
MAX_MANIFEST_BYTES = 1 << 20


class Tensor(msgspec.Struct, frozen=True):
    """One input: OIP name and datatype; shape with -1 for the batch dimension."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]


class Output(msgspec.Struct, frozen=True):
    """One output. ``role`` says what its numbers mean to profiles and quality."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]
    role: Literal["label", "probabilities", "value", "other"] = "other"


class ModelFile(msgspec.Struct, frozen=True):
    """The canonical ONNX file."""

    file: str
    size_bytes: int
    opsets: dict[str, int]
    ir_version: int
    operators: dict[str, int] = {}


class Requirements(msgspec.Struct, frozen=True):
    """What a device must have. Memory is the increase measured on the build machine."""

    onnxruntime: str = "1.17"
    memory_bytes: int = 0
    device_classes: tuple[str, ...] = ()


class Source(msgspec.Struct, frozen=True):
    """What was converted, with what, and how that had to differ from the plain conversion."""

    framework: str
    framework_version: str
    estimator: str
    converter: str
    converter_version: str
    digest: str = ""
    rewrites: tuple[str, ...] = ()


class Parity(msgspec.Struct, frozen=True):
    """How the conversion was proven. Errors are absolute, over all corpus rows."""

    rows: int
    cases: dict[str, int]
    rtol: float
    atol: float
    max_abs_error: float
    label_ties: int = 0


class GatePart(msgspec.Struct, frozen=True):
    """One segment or column of a gate that looks at several.

    Args:
        name: of the segment or column.
        rows: that it has.
        measured: its figure; None when it was not judged.
        interval: two-sided, of ``measured``; None when not known.
        held: whether it is within the gate's limit.
        judged: False when there were too few rows to say.
    """

    name: str
    rows: int = 0
    measured: float | None = None
    interval: tuple[float, float] | None = None
    held: bool = True
    judged: bool = True


class GateOutcome(msgspec.Struct, frozen=True):
    """What a gate found before the bundle was signed.

    Args:
        name: dotted, e.g. ``quality.auc``.
        kind: what it guards: "columns", "data", "quality", "incumbent", "slices", "budgets",
            "skew", or "own" for a callable of the packer's.
        held: whether it holds; in a bundle, every one does.
        judged: False when it could not be judged, and says so in ``message``.
        measured: the figure; None where there is none, or where it is not the same twice.
        rule: how ``threshold`` is meant: "at least" or "at most"; "" for neither.
        threshold: the limit.
        interval: two-sided, of ``measured``; None when not known.
        rows: that the figure was measured on.
        unit: of ``measured``: "µs", "bytes", "ms", "share", or "".
        message: the finding as a sentence.
        parts: the segments or columns that it looked at, the worst first.
    """

    name: str
    kind: str
    held: bool
    judged: bool = True
    measured: float | None = None
    rule: Literal["at least", "at most", ""] = ""
    threshold: float | None = None
    interval: tuple[float, float] | None = None
    rows: int = 0
    unit: str = ""
    message: str = ""
    parts: tuple[GatePart, ...] = ()


class Optimisation(msgspec.Struct, frozen=True):
    """How the model was made smaller after it was proven, and what that cost.

    Args:
        precision: of the weights: "float32", "float16", "int8-dynamic" or "int8-static".
        graph: optimisation of the graph: "none", "basic" or "extended".
        size_bytes: of the float32 model before.
        latency_us: of that model, per row; 0 when left out.
        loss: measured, by metric: differences of ``accuracy`` and ``auc``, shares of ``mae`` and
            ``rmse``, ``disagreement`` of labels and ``distance`` of outputs.
        allowed: by metric.
        rows: that the loss was measured on.
        rtol, atol: of its parity vectors, which hold its own answers.
    """

    precision: str
    graph: str
    size_bytes: int
    latency_us: float = 0.0
    loss: dict[str, float] = {}
    allowed: dict[str, float] = {}
    rows: int = 0
    rtol: float = 0.0
    atol: float = 0.0


class Lineage(msgspec.Struct, frozen=True):
    """Where a model comes from, in short; the whole is in ``provenance.json``.

    Args:
        repository: URL of the training code.
        commit: of the training code.
        dirty: whether there were uncommitted changes.
        reference: SHA-256 over the columns of the reference data.
        runs: ids of the training by tool (``mlflow``, ``wandb``, ``github``, …).
        seeds: random seeds by name.
    """

    repository: str = ""
    commit: str = ""
    dirty: bool = False
    reference: str = ""
    runs: dict[str, str] = {}
    seeds: dict[str, int] = {}


class DriftPolicy(msgspec.Struct, frozen=True):
    """How windows of this model are made and judged, and what of them leaves a device.

    Args:
        release_words: a word that a category's vocabulary lacks is readable for the server once so
            many devices have met it (`whimbrel_core.profile.privacy.words`); 0: never told at all.
        noise_epsilon: counts leave a device with noise that hides a single row: the ε of each
            feature (`whimbrel_core.profile.privacy.noise`), smaller hides more; 0: exact counts.
    """

    window_s: int = 300
    min_rows: int = 100
    warn_psi: float = 0.1
    severe_psi: float = 0.25
    warmup_windows: int = 48
    arl_s: int = 30 * 86_400
    release_words: int = 5
    noise_epsilon: float = 0.0


class Manifest(msgspec.Struct, frozen=True):
    """The content of ``manifest.json``.

    A ``detector`` tells outliers (class "-1", the positive one) from inliers ("1"), which is a
    classification to all that count its answers; its score is an output of role "value".
    """

    format: int
    name: str
    version: str
    release: int
    task: Task
    model: ModelFile
    inputs: tuple[Tensor, ...]
    outputs: tuple[Output, ...]
    profile_id: str
    source: Source
    parity: Parity
    classes: tuple[str, ...] = ()
    positive: int | None = None
    requirements: Requirements = Requirements()
    drift: DriftPolicy = DriftPolicy()
    metrics: dict[str, float] = {}
    created: str = ""
    description: str = ""
    training: dict[str, str] = {}
    licence: str = ""
    lineage: Lineage = Lineage()
    gates: tuple[GateOutcome, ...] = ()
    detector: bool = False
    optimisation: Optimisation | None = None

    def encode(self) -> bytes:
        """Return the canonical JSON that is stored and signed."""
        return canonical_json(self)

    @property
    def title(self) -> str:
        """``name-version``, for messages and file names."""
        return f"{self.name}-{self.version}"

    @property
    def purpose(self) -> str:
        """What the model does, in words for people."""
        return "outlier detection" if self.detector else self.task


_DECODER = msgspec.json.Decoder(Manifest)


def decode(data: bytes) -> Manifest:
    """Return the manifest in ``data``.

    Raises:
        BundleError: malformed, of a newer format, or inconsistent in itself.
    """
    if len(data) > MAX_MANIFEST_BYTES:
        msg = f"manifest.json is {len(data)} bytes, {MAX_MANIFEST_BYTES} are allowed"
        raise BundleError(msg, code="bundle.limit")
    try:
        manifest = _DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        msg = f"manifest.json: {error}"
        raise BundleError(msg, hint="pack the model again") from error
    if manifest.format != FORMAT:
        msg = f"bundle format is {manifest.format}, this version reads {FORMAT}"
        raise BundleError(msg, code="bundle.version", hint="update Whimbrel on this machine")
    identity.model_name(manifest.name)
    identity.version(manifest.version)
    identity.digest(manifest.profile_id)
    if manifest.release < 1:
        msg = f"{manifest.title}: release counter is {manifest.release}, it starts at 1"
        raise BundleError(msg)
    if not manifest.inputs or not manifest.outputs:
        msg = f"{manifest.title}: has no inputs or no outputs"
        raise BundleError(msg)
    if manifest.positive is not None and not 0 <= manifest.positive < len(manifest.classes):
        msg = f"{manifest.title}: positive class {manifest.positive} is not among its classes"
        raise BundleError(msg)
    return manifest
