"""One loaded model: a verified bundle and its onnxruntime session.

The engine owns the session and nothing else: it knows no HTTP and no profiles. A bundle is
verified in the same open file that it is read from, so that what is served is what was signed.

Session options: one thread, and none of it spins, because a device's other work matters more
than a few microseconds; the memory arena is off, because it keeps the largest batch ever seen.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, NamedTuple

# Numerical libraries read these when they load: one thread each, as the sessions have.
for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np  # noqa: E402 - after the environment
import onnxruntime as ort  # noqa: E402 - after the environment

from whimbrel_core.bundle import bundle as bundles  # noqa: E402 - after the environment
from whimbrel_core.bundle.datatypes import DTYPES, ONNX_TYPES  # noqa: E402 - after the environment
from whimbrel_core.errors import (  # noqa: E402 - after the environment
    CompatibilityError,
    RefusedError,
    StorageError,
    TrustError,
)
from whimbrel_core.profile.baseline import Baseline  # noqa: E402 - after the environment
from whimbrel_core.signing.keys import PublicKey  # noqa: E402 - after the environment

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from whimbrel_agent.marks import Marks
    from whimbrel_core.bundle.manifest import Manifest

    Feeds = dict[str, NDArray[Any]]

BASELINE = "baseline.bin"
_FATAL = 4
_CALIBRATION_ROWS = 8
# What stacking inputs and cutting outputs costs per request (measured: 12 µs on x86-64).
_STACKING_US = 12.0


class ModelFailedError(RefusedError):
    """The model or the runtime failed on inputs that fit its signature; serving goes on."""

    default_code = "model.failed"


class Calibration(NamedTuple):
    """What one run costs on this device, measured at load, in microseconds."""

    first_us: float
    single_us: float
    batched_row_us: float

    @property
    def batching_pays(self) -> bool:
        """Whether rows get so much cheaper in company that stacking them is worth its cost."""
        return self.single_us - self.batched_row_us > _STACKING_US


class Engine:
    """A model that answers: made by `load`, safe to run from several threads.

    Args:
        manifest: signed identity, inputs and outputs.
        baseline: the profile that its windows are counted in.
        digest: SHA-256 of the bundle file.
        session: of the canonical ONNX file.
    """

    def __init__(
        self, manifest: Manifest, baseline: Baseline, digest: str, session: ort.InferenceSession
    ) -> None:
        self.manifest = manifest
        self.baseline = baseline
        self.digest = digest
        self.output_names = tuple(output.name for output in manifest.outputs)
        self._names = list(self.output_names)
        self._session = session
        # `InferenceSession.run` looks at the names again, which the schema has done already: a
        # fifth of what a small model costs. Where a release has nothing behind it, it is used.
        self._run = getattr(session, "_sess", session).run
        self._marks: Marks = bytearray(1)
        self._place = 0
        self._check_signature()

    def mark(self, marks: Marks, place: int) -> None:
        """Set ``marks[place]`` while the model runs, for whoever asks after a crash."""
        self._marks, self._place = marks, place

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Return the outputs in the manifest's order.

        Args:
            feeds: every input by name, (n, …) in its datatype.

        Raises:
            ModelFailedError: the runtime refuses or fails. The session can be used again.
        """
        self._marks[self._place] = 1
        try:
            outputs: list[NDArray[Any]] = self._run(self._names, feeds, None)
        except Exception as error:
            # onnxruntime raises its own types, RuntimeError and ValueError without a common base.
            first_line = (str(error).splitlines() or ["no message"])[0][:300]
            msg = f"{self.manifest.title} failed on this input: {first_line}"
            raise ModelFailedError(
                msg, hint="the request fits the model's signature; report it to its publisher"
            ) from error
        finally:
            self._marks[self._place] = 0
        return outputs

    def calibrate(self) -> Calibration:
        """Measure a single row and a small batch on blank inputs; the first run is the slowest.

        Raises:
            ModelFailedError: the model cannot run at all on this device.
        """
        single = self.blank(1)
        started = time.perf_counter()
        self.run(single)
        first = time.perf_counter() - started
        batch = self.blank(_CALIBRATION_ROWS)
        return Calibration(
            first_us=first * 1e6,
            single_us=self._best_us(single),
            batched_row_us=self._best_us(batch) / _CALIBRATION_ROWS,
        )

    def blank(self, rows: int) -> Feeds:
        """Return inputs of ``rows`` rows of zeros and empty strings."""
        feeds: Feeds = {}
        for tensor in self.manifest.inputs:
            shape = (rows, *tensor.shape[1:])
            dtype = DTYPES[tensor.datatype]
            feeds[tensor.name] = (
                np.full(shape, "", dtype=object)
                if tensor.datatype == "BYTES"
                else np.zeros(shape, dtype=dtype)
            )
        return feeds

    def _best_us(self, feeds: Feeds) -> float:
        best = float("inf")
        started = time.perf_counter()
        for _ in range(20):
            begin = time.perf_counter()
            self.run(feeds)
            now = time.perf_counter()
            best = min(best, now - begin)
            # A heavy model shows what it costs at once; loading must not wait for twenty runs.
            if now - started > 0.02:  # noqa: PLR2004 - seconds
                break
        return best * 1e6

    def _check_signature(self) -> None:
        """Refuse a manifest that does not describe its own model."""
        actual = {node.name: node for node in self._session.get_inputs()}
        stated = {tensor.name: tensor for tensor in self.manifest.inputs}
        title = self.manifest.title
        if actual.keys() != stated.keys():
            odd = ", ".join(sorted(actual.keys() ^ stated.keys())[:5])
            msg = f"{title}: the model's inputs are not those of its manifest; differing: {odd}"
            raise CompatibilityError(msg, code="compatibility.inputs", hint="pack it again")
        for name, tensor in stated.items():
            if actual[name].type != ONNX_TYPES[tensor.datatype]:
                msg = f"{title}: input {name!r} is {actual[name].type}, stated as {tensor.datatype}"
                raise CompatibilityError(msg, code="compatibility.inputs", hint="pack it again")
            if any(size < 1 for size in tensor.shape[1:]):
                msg = f"{title}: input {name!r} has shape {list(tensor.shape)}; only the first dimension may vary"
                raise CompatibilityError(msg, code="compatibility.inputs", hint="pack it again")
        types = {node.name: node.type for node in self._session.get_outputs()}
        for output in self.manifest.outputs:
            if types.get(output.name) != ONNX_TYPES[output.datatype]:
                msg = f"{title}: output {output.name!r} is {types.get(output.name, 'missing')}, stated as {output.datatype}"
                raise CompatibilityError(msg, code="compatibility.outputs", hint="pack it again")


def load(path: Path, keys: Iterable[str], *, digest: str | None = None) -> Engine:
    """Verify the bundle at ``path`` and load its model.

    Args:
        path: a ``.whim`` file.
        keys: PEM public keys of the publishers that are trusted for it.
        digest: the SHA-256 that the file must have, when it is known.

    Raises:
        StorageError: the file cannot be read.
        TrustError: not signed by one of ``keys``, or not the file that was meant.
        BundleError: malformed.
        CompatibilityError: this runtime cannot load the model.
    """
    trusted = [PublicKey.from_pem(pem) for pem in keys]
    try:
        file = path.open("rb")
    except OSError as error:
        msg = f"cannot read {path}: {error.strerror}"
        raise StorageError(msg, hint="fetch the bundle again") from error
    with file:
        actual = _sha256(file)
        if digest is not None and actual != digest:
            msg = f"{path.name} is not the bundle that was assigned (sha256 {actual[:12]}…, assigned {digest[:12]}…)"
            raise TrustError(msg, code="trust.digest", hint="fetch the bundle again")
        bundle = bundles.open_bundle(file, trusted, what=path.name)
        baseline = Baseline.decode(bundle.read(BASELINE))
        manifest = bundle.manifest
        if baseline.profile_id != manifest.profile_id:
            msg = f"{manifest.title}: the baseline is not the one that the manifest names"
            raise TrustError(msg, code="trust.profile", hint="pack the model again")
        session = _session(bundle.read(manifest.model.file), manifest)
    return Engine(manifest, baseline, actual, session)


def _session(model: bytes, manifest: Manifest) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    options.log_severity_level = _FATAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    try:
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        # As in `Engine.run`: no common base below Exception.
        first_line = (str(error).splitlines() or ["no message"])[0][:300]
        msg = f"{manifest.title}: onnxruntime {ort.__version__} cannot load the model: {first_line}"
        raise CompatibilityError(
            msg, code="compatibility.runtime", hint="pack it for an older opset"
        ) from error


def _sha256(file: Any) -> str:  # noqa: ANN401 - a binary file object
    import hashlib

    hasher = hashlib.sha256()
    while piece := file.read(1 << 20):
        hasher.update(piece)
    file.seek(0)
    return hasher.hexdigest()
