"""The probe process: prove a candidate on this very device before the worker is touched.

``python -m whimbrel_agent.update.probe``: reads a `ProbeRequest`, answers with `Proven`. The order:
limits on this process → signature, by a key that may sign this model → compatibility → load as a
worker would → parity vectors → memory and latency. A model that crashes or hangs the runtime
does it here, where it costs nothing: control sees the signal or the time limit.
"""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from whimbrel_agent.update import child, trust
from whimbrel_agent.update.messages import Answer, ProbeRequest, Proven
from whimbrel_agent.update.targets import classes_fit
from whimbrel_core.errors import CompatibilityError, ParityError, StorageError, TrustError

if TYPE_CHECKING:
    from whimbrel_core.bundle.manifest import Manifest

_RUNS = 30
_RUN_BUDGET_S = 0.5
# Loading costs more than a model keeps: a swap beside the old one needs this part more.
_HEADROOM = 1.2


def answer(data: bytes) -> Answer:
    """Prove the bundle or raise why not."""
    request = msgspec.json.decode(data, type=ProbeRequest)
    _limit(request)
    return Answer(proven=probe(request))


def probe(request: ProbeRequest) -> Proven:
    """Return what was measured of a bundle that holds.

    Raises:
        TrustError: not signed by a key that may sign this model.
        BundleError: malformed.
        CompatibilityError: not for this device or runtime.
        ParityError: it does not answer here as it did where it was made.
        StorageError: the file cannot be read.
    """
    from whimbrel_agent.serving import engine
    from whimbrel_core.bundle import bundle as bundles
    from whimbrel_core.bundle import parity
    from whimbrel_core.signing.keys import PublicKey

    path = Path(request.path)
    everybody = [PublicKey.from_pem(key.pem) for key in request.keys]
    try:
        with path.open("rb") as file:
            bundle = bundles.open_bundle(file, everybody, what=path.name)
            manifest = bundle.manifest
            vectors = parity.decode(bundle.read(bundles.PARITY))
            key_id = bundle.key_id
    except OSError as error:
        msg = f"{path} cannot be read: {error}"
        raise StorageError(msg) from error
    allowed = trust.keys_for(request.keys, manifest.name)
    if key_id not in {PublicKey.from_pem(pem).id for pem in allowed}:
        msg = f"{manifest.title} is signed by a key that may not sign {manifest.name}"
        raise TrustError(
            msg, code="trust.scope", hint="see the models of that key in trust/publishers.json"
        )
    _check_device(manifest, request)
    before = _resident()
    loaded = engine.load(path, allowed, digest=request.digest or None)
    result = parity.check(
        vectors, lambda feeds: dict(zip(loaded.output_names, loaded.run(feeds), strict=True))
    )
    if result.failures:
        msg = f"{manifest.title} does not answer on this device as it should: {result.failures[0]}"
        raise ParityError(
            msg, hint="it was not installed; pack it with the onnxruntime of the devices"
        )
    memory = max(0, _resident() - before)
    single = {name: array[:1] for name, array in vectors.inputs.items()}
    best = float("inf")
    started = time.perf_counter()
    for _ in range(_RUNS):
        begin = time.perf_counter()
        loaded.run(single)
        now = time.perf_counter()
        best = min(best, now - begin)
        if now - started > _RUN_BUDGET_S:
            break
    return Proven(
        name=manifest.name,
        version=manifest.version,
        release=manifest.release,
        profile_id=manifest.profile_id,
        memory_bytes=memory,
        latency_us=best * 1e6,
        parity_rows=result.rows,
        max_abs_error=result.max_abs_error,
        key_id=key_id,
    )


def _check_device(manifest: Manifest, request: ProbeRequest) -> None:
    needs = manifest.requirements
    if not classes_fit(needs.device_classes, request.device_classes):
        msg = f"{manifest.title} is for devices of class {', '.join(needs.device_classes)}"
        raise CompatibilityError(
            msg, code="compatibility.class", hint="see device_classes in agent.toml"
        )
    if 0 < request.memory_available_bytes < needs.memory_bytes * _HEADROOM:
        msg = (
            f"{manifest.title} needs {needs.memory_bytes} bytes, "
            f"{request.memory_available_bytes} are available"
        )
        raise CompatibilityError(msg, code="compatibility.memory", hint="free memory")
    import onnxruntime

    if _numbers(onnxruntime.__version__) < _numbers(needs.onnxruntime):
        msg = f"{manifest.title} needs onnxruntime {needs.onnxruntime}, this is {onnxruntime.__version__}"
        raise CompatibilityError(
            msg, code="compatibility.runtime", hint="update onnxruntime on this device"
        )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())


def _limit(request: ProbeRequest) -> None:
    for kind, value in (
        (resource.RLIMIT_AS, request.memory_bytes),
        (resource.RLIMIT_CPU, request.cpu_s),
        (resource.RLIMIT_CORE, 0),
    ):
        if value or kind == resource.RLIMIT_CORE:
            _, hard = resource.getrlimit(kind)
            ceiling = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(kind, (ceiling, hard))


def _resident() -> int:
    with Path("/proc/self/statm").open("rb") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    child.serve(answer)
