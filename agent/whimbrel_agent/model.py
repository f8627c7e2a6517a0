"""A verified model inside an application's own process: no HTTP, the same profiles.

::

    from whimbrel_agent import Model

    with Model("churn-1.0.0.whim", keys=["publisher.pub"]) as model:
        answer = model.predict({"x": rows})

With a ``data_dir`` the rows are profiled into windows, which go to the agent on this machine over
its telemetry socket when there is one, and wait on disk while there is none. Measuring never fails
a prediction.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from whimbrel_agent.channel import ServingSettings
from whimbrel_agent.serving import engine as engines
from whimbrel_agent.serving.engine import ModelFailedError
from whimbrel_agent.telemetry import recovery
from whimbrel_agent.telemetry.bundles import KnownBundles
from whimbrel_agent.telemetry.client import TelemetryClient, now_ms
from whimbrel_agent.telemetry.recorder import Clocks
from whimbrel_agent.telemetry.slot import SlotTelemetry
from whimbrel_agent.telemetry.windowfile import ServedModel
from whimbrel_core import identity
from whimbrel_core.bundle.datatypes import DTYPES, RANGES
from whimbrel_core.errors import RequestError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from numpy.typing import ArrayLike, NDArray

    from whimbrel_agent.telemetry.joiner import Label
    from whimbrel_core.bundle.manifest import Manifest, Tensor

_TICK_S = 5.0
_CLOSE_S = 2.0


class Model:
    """A model that answers in this process. Safe to use from several threads.

    Args:
        bundle: path of a ``.whim`` file.
        keys: publishers' public keys that are trusted for it: paths of PEM files, or PEM text.
        data_dir: the agent's data directory, or one of the application's own. None: no profiles.
        slot: under which name its windows are reported; the model's own by default.
        settings: limits of windows and labels.

    Raises:
        StorageError: the file cannot be read.
        TrustError: it is not signed by one of ``keys``.
        BundleError: it is malformed.
        CompatibilityError: this device cannot run it.
    """

    def __init__(
        self,
        bundle: str | Path,
        *,
        keys: Iterable[str | Path],
        data_dir: str | Path | None = None,
        slot: str | None = None,
        settings: ServingSettings | None = None,
    ) -> None:
        pems = tuple(_pem(key) for key in keys)
        self._engine = engines.load(Path(bundle), pems)
        self.manifest: Manifest = self._engine.manifest
        self.slot = identity.slot_name(slot or self.manifest.name)
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._telemetry: SlotTelemetry | None = None
        self._client: TelemetryClient | None = None
        if data_dir is not None:
            self._measure(Path(data_dir), pems, settings or ServingSettings())

    def predict(
        self,
        inputs: Mapping[str, ArrayLike],
        *,
        at: datetime | None = None,
        ids: Sequence[str] | None = None,
    ) -> dict[str, NDArray[Any]]:
        """Return the model's outputs by name.

        Args:
            inputs: every input by name, (n, …) as the manifest states it; (n,) for (n, 1).
            at: event time of the rows, with an offset from UTC; None for now.
            ids: one prediction id per row, under which `label` may name the truth later.

        Raises:
            RequestError: the inputs are not the model's.
            ModelFailedError: the model or runtime failed on them.
        """
        if self._closed.is_set():
            msg = f"{self.manifest.title} was closed"
            raise UsageError(msg, hint="open the model again")
        started = time.perf_counter()
        try:
            feeds, rows = self._feeds(inputs)
            at_ms = None if at is None else _milliseconds(at)
            _require_ids(ids, rows)
        except RequestError as error:
            with self._lock:
                if self._telemetry is not None:
                    self._telemetry.count_rejected(error)
            raise
        try:
            values = self._engine.run(feeds)
        except ModelFailedError:
            with self._lock:
                if self._telemetry is not None:
                    self._telemetry.count_failed()
            raise
        outputs = dict(zip(self._engine.output_names, values, strict=True))
        if self._telemetry is not None:
            latency_us = (time.perf_counter() - started) * 1e6
            with self._lock:
                self._telemetry.record({**feeds, **outputs}, rows, at_ms, latency_us, ids)
        return outputs

    def label(self, labels: Mapping[str, Label]) -> int:
        """Count the true labels of predictions made under these ids; return how many were known.

        Raises:
            RequestError: a label is no class or number of this model. None was counted.
            UsageError: this model was opened without a ``data_dir``.
        """
        if self._telemetry is None:
            msg = f"{self.manifest.title} keeps no profiles"
            raise UsageError(msg, hint="open the model with data_dir=…")
        with self._lock:
            return self._telemetry.join(list(labels.items()))

    def close(self) -> None:
        """Close the open windows and hand them over; what cannot be is kept on disk."""
        if self._closed.is_set():
            return
        self._closed.set()
        if self._telemetry is None or self._client is None:
            return
        with self._lock:
            self._telemetry.close()
        self._client.flush(_CLOSE_S)
        self._client.stop()

    def __enter__(self) -> Model:  # noqa: PYI034 - `Self` is newer than Python 3.10
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _measure(self, data_dir: Path, pems: tuple[str, ...], settings: ServingSettings) -> None:
        engine = self._engine
        client = TelemetryClient(
            data_dir / "run" / "telemetry.sock",
            data_dir / "profiles",
            retry_s=settings.telemetry_retry_s,
        )
        known = KnownBundles(
            data_dir / "store", pems, {engine.digest: (engine.baseline, engine.manifest)}
        )
        self._telemetry = SlotTelemetry(
            ServedModel(self.slot, self.manifest.name, self.manifest.version, engine.digest),
            self.manifest,
            engine.baseline,
            settings,
            data_dir=data_dir,
            client=client,
            known=known,
            clocks=Clocks(now_ms, time.monotonic),
        )
        self._client = client
        client.start()
        # Only its own: the windows of other bundles belong to the agent's worker.
        client.call(
            lambda: recovery.recover(data_dir / "profiles", known, client, only=engine.digest)
        )
        threading.Thread(target=self._tick_forever, name="whimbrel-windows", daemon=True).start()

    def _tick_forever(self) -> None:
        while not self._closed.wait(_TICK_S):
            with self._lock:
                if self._telemetry is not None and not self._closed.is_set():
                    self._telemetry.tick()

    def _feeds(self, inputs: Mapping[str, ArrayLike]) -> tuple[dict[str, NDArray[Any]], int]:
        stated = {tensor.name: tensor for tensor in self.manifest.inputs}
        if inputs.keys() != stated.keys():
            odd = ", ".join(sorted(inputs.keys() ^ stated.keys())[:5])
            msg = f"{self.manifest.title} was given other inputs than it has; differing: {odd}"
            raise RequestError(msg, code="request.input", hint=f"its inputs: {', '.join(stated)}")
        feeds = {name: _array(tensor, inputs[name]) for name, tensor in stated.items()}
        rows = {len(array) for array in feeds.values()}
        if len(rows) != 1 or 0 in rows:
            msg = f"the inputs have {sorted(rows)} rows"
            raise RequestError(
                msg, code="request.shape", hint="all inputs have equal rows, one at least"
            )
        return feeds, rows.pop()


def _array(tensor: Tensor, values: ArrayLike) -> NDArray[Any]:
    """Return ``values`` in the datatype and shape of ``tensor``, if nothing is lost by it."""
    dtype = DTYPES[tensor.datatype]
    array = np.asarray(values)
    words = array.dtype.kind in "OUST"
    whole = tensor.datatype in RANGES and array.dtype.kind in "iu"
    if words != (tensor.datatype == "BYTES") or not (
        words or whole or np.can_cast(array.dtype, dtype, "same_kind")
    ):
        msg = f"input {tensor.name!r} is {array.dtype}, the model takes {tensor.datatype}"
        raise RequestError(msg, code="request.datatype", hint=f"convert it to {dtype}")
    if words and any(not isinstance(word, str) for word in array.ravel().tolist()):
        msg = f"input {tensor.name!r} holds something that is no string"
        raise RequestError(msg, code="request.data", hint="give a missing word as ''")
    tail = tuple(tensor.shape[1:])
    if array.ndim == 1 and tail == (1,):
        array = array.reshape(-1, 1)
    if array.ndim != len(tensor.shape) or array.shape[1:] != tail:
        msg = f"input {tensor.name!r} has shape {list(array.shape)}, the model takes {['n', *tail]}"
        raise RequestError(msg, code="request.shape")
    if whole:
        _require_range(tensor, array)
    with np.errstate(over="ignore"):
        return array.astype(dtype, copy=False)


def _require_range(tensor: Tensor, array: NDArray[Any]) -> None:
    """Refuse whole numbers that the datatype would wrap."""
    low, high = RANGES[tensor.datatype]
    if not array.size or (low <= array.min() and array.max() <= high):
        return
    at = np.argwhere((array < low) | (array > high))[0]
    msg = f"input {tensor.name!r}, row {at[0]}: {array[tuple(at)]} is no {tensor.datatype}"
    raise RequestError(
        msg,
        code="request.data",
        hint=f"{tensor.datatype} data are whole numbers from {low} to {high}",
    )


def _require_ids(ids: Sequence[str] | None, rows: int) -> None:
    if ids is not None and len(ids) != rows:
        msg = f"{len(ids)} prediction ids for {rows} rows"
        raise RequestError(msg, code="request.ids", hint="give one id per row, or none")


def _milliseconds(at: datetime) -> int:
    if at.tzinfo is None:
        msg = f"time {at.isoformat()} has no offset from UTC"
        raise RequestError(msg, code="request.timestamp", hint="use an aware datetime")
    return int(at.timestamp() * 1000)


def _pem(key: str | Path) -> str:
    if isinstance(key, str) and key.lstrip().startswith("-----BEGIN"):
        return key
    try:
        return Path(key).read_text("ascii")
    except (OSError, UnicodeDecodeError) as error:
        msg = f"cannot read the key {key}: {error}"
        raise UsageError(msg, hint="give the path of a .pub file, or its text") from error
