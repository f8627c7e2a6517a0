"""What is under which URL: the Open Inference Protocol v2, labels, and metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote

import msgspec

import whimbrel_agent
from whimbrel_agent.serving import http
from whimbrel_agent.serving.metrics import render_metrics
from whimbrel_core.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from whimbrel_agent.serving.batching import Batcher
    from whimbrel_agent.serving.service import SlotService

_READS = frozenset({b"GET", b"HEAD"})


class InferRoute(NamedTuple):
    """Where inference requests to one URL go."""

    service: SlotService
    batcher: Batcher | None


class Routes:
    """Answers every request of a worker.

    Args:
        slots: the services and, where they batch, their batchers.
        waiting: returns how many windows wait for control.

    Attributes:
        infer: by request target; what is looked up first, because it is nearly all there is.
    """

    def __init__(
        self,
        slots: Iterable[tuple[SlotService, Batcher | None]],
        *,
        waiting: Callable[[], int] = lambda: 0,
    ) -> None:
        self._services: dict[str, SlotService] = {}
        self.infer: dict[bytes, InferRoute] = {}
        self.ready = True
        self._waiting = waiting
        for service, batcher in slots:
            slot = service.slot
            self._services[slot] = service
            route = InferRoute(service, batcher)
            version = service.engine.manifest.version
            for middle in ("", f"/versions/{version}"):
                self.infer[f"/v2/models/{slot}{middle}/infer".encode()] = route

    def respond(self, method: bytes, target: bytes, body: bytes, *, keep_alive: bool) -> bytes:
        """Return the response to any request but a plain inference.

        Raises:
            RequestError: no such URL, slot, version or method.
        """
        path = unquote(target.split(b"?", 1)[0].decode("latin-1"))
        plain = path.encode("utf-8", "replace")
        if method == b"POST" and plain in self.infer:
            # Written unusually (a query, an escape): the same request all the same.
            return http.OK.response(self.infer[plain].service.answer(body), keep_alive=keep_alive)
        parts = [part for part in path.split("/") if part]
        head = http.OK
        if method == b"POST":
            content = self._post(parts, path, body)
        elif method in _READS:
            content = self._get(parts, path)
            if path == "/metrics":
                head = http.METRICS
        else:
            msg = f"{method.decode('latin-1')} is not served here"
            raise RequestError(msg, code="request.method", hint="use GET or POST")
        if method == b"HEAD":
            return head.without_body(content, keep_alive=keep_alive)
        return head.response(content, keep_alive=keep_alive)

    def _get(self, parts: list[str], path: str) -> bytes:  # noqa: C901 - a table of URLs
        match parts:
            case ["v2"]:
                return msgspec.json.encode(
                    {
                        "name": "whimbrel",
                        "version": whimbrel_agent.__version__,
                        "extensions": ["labels"],
                    }
                )
            case ["v2", "health", "live"]:
                return b'{"live":true}'
            case ["v2", "health", "ready"]:
                return b'{"ready":true}'
            case ["v2", "models"]:
                return msgspec.json.encode({"models": sorted(self._services)})
            case ["v2", "models", slot]:
                return self._metadata(self._service(slot))
            case ["v2", "models", slot, "ready"]:
                return self._ready(self._service(slot))
            case ["v2", "models", slot, "versions", version]:
                return self._metadata(self._service(slot, version))
            case ["v2", "models", slot, "versions", version, "ready"]:
                return self._ready(self._service(slot, version))
            case ["metrics"]:
                return render_metrics(self._services.values(), self._waiting())
            case ["v2", "models", _, "infer" | "labels"] | [
                "v2",
                "models",
                _,
                "versions",
                _,
                "infer",
            ]:
                msg = f"{path[:200]} takes POST"
                raise RequestError(msg, code="request.method", hint="send the request as POST")
        raise _not_found(path)

    def _post(self, parts: list[str], path: str, body: bytes) -> bytes:
        match parts:
            case ["v2", "models", slot, "infer"]:
                return self._service(slot).answer(body)
            case ["v2", "models", slot, "versions", version, "infer"]:
                return self._service(slot, version).answer(body)
            case ["v2", "models", slot, "labels"]:
                return self._service(slot).label(body)
        if parts[:1] in (["v2"], ["metrics"]):
            self._get(parts, path)  # raises when there is no such URL at all
            msg = f"{path[:200]} takes GET"
            raise RequestError(msg, code="request.method", hint="send the request as GET")
        raise _not_found(path)

    def _service(self, slot: str, version: str | None = None) -> SlotService:
        service = self._services.get(slot)
        if service is None:
            known = ", ".join(sorted(self._services)) or "none"
            msg = f"no model is served under {slot[:80]!r}"
            raise RequestError(msg, code="request.slot", hint=f"slots of this device: {known}")
        serving = service.engine.manifest.version
        if version is not None and version != serving:
            msg = f"{slot} serves version {serving}, not {version[:80]}"
            raise RequestError(
                msg, code="request.version", hint="leave the version out to take what is served"
            )
        return service

    @staticmethod
    def _ready(service: SlotService) -> bytes:
        return msgspec.json.encode({"name": service.slot, "ready": True})

    @staticmethod
    def _metadata(service: SlotService) -> bytes:
        manifest = service.engine.manifest
        return msgspec.json.encode(
            {
                "name": service.slot,
                "versions": [manifest.version],
                "platform": "onnxruntime_onnx",
                "inputs": [_tensor(t.name, t.datatype, t.shape) for t in manifest.inputs],
                "outputs": [_tensor(t.name, t.datatype, t.shape) for t in manifest.outputs],
                "parameters": {
                    "model": manifest.name,
                    "release": manifest.release,
                    "digest": service.engine.digest,
                    "task": manifest.task,
                    "classes": manifest.classes,
                },
            }
        )


def _tensor(name: str, datatype: str, shape: tuple[int, ...]) -> dict[str, object]:
    return {"name": name, "datatype": datatype, "shape": list(shape)}


def _not_found(path: str) -> RequestError:
    return RequestError(
        f"there is nothing at {path[:200]}",
        code="request.not_found",
        hint="inference is at POST /v2/models/<slot>/infer; GET /v2/models lists the slots",
    )
