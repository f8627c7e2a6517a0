"""A typed client of the fleet server's REST interface; the command line is made of it.

Every failure is an error of Whimbrel's tree: what the server said as a problem comes back with
the same code, message and hint, and a server that is away is an `UnavailableError`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlsplit

import httpx
import msgspec

from whimbrel_core.errors import (
    InputError,
    RefusedError,
    StorageError,
    TrustError,
    UnavailableError,
    UsageError,
    WhimbrelError,
)
from whimbrel_server.views.alerts import AlertView
from whimbrel_server.views.audit import AuditView
from whimbrel_server.views.devices import CountsView, DeviceView, EventView
from whimbrel_server.views.drift import DriftView
from whimbrel_server.views.enrolment import Enrolment
from whimbrel_server.views.groups import GroupsView
from whimbrel_server.views.health import HealthView
from whimbrel_server.views.models import ModelView, WordsView
from whimbrel_server.views.rollouts import RolloutSpec, RolloutView
from whimbrel_server.views.slices import SliceView
from whimbrel_server.views.stored import StoredCountsView
from whimbrel_server.views.verdicts import ExplanationView, ReplayView

if TYPE_CHECKING:
    from collections.abc import Mapping

    from whimbrel_server.views.stored import Step

T = TypeVar("T")

_UNAUTHORIZED, _NOT_FOUND, _CONFLICT, _REFUSED, _AWAY, _STORAGE = 401, 404, 409, 422, 503, 507
_KINDS: dict[int, type[WhimbrelError]] = {
    400: InputError,
    _UNAUTHORIZED: TrustError,
    403: TrustError,
    _NOT_FOUND: UsageError,
    _CONFLICT: UsageError,
    _REFUSED: RefusedError,
    _AWAY: UnavailableError,
    _STORAGE: StorageError,
}


class _Problem(msgspec.Struct, frozen=True):
    detail: str = ""
    code: str = ""
    hint: str | None = None


class FleetClient:
    """Talks to one fleet server.

    Args:
        url: of the server, for example ``http://127.0.0.1:8500``.
        token: operator token; reads of an open server need none.
        actor: who is behind this client; appears in the audit beside "operator".
        transport: another transport than the network, for tests.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        actor: str = "",
        timeout_s: float = 30.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        headers = {"accept": "application/json"}
        if token:
            headers["authorization"] = f"Bearer {token}"
        if actor:
            headers["whimbrel-actor"] = actor
        self.url = url.rstrip("/")
        _check_address(url)
        try:
            self._http = httpx.Client(
                base_url=self.url + "/api/v1",
                headers=headers,
                timeout=timeout_s,
                transport=transport,
            )
        except (httpx.InvalidURL, UnicodeEncodeError) as error:
            raise UsageError(
                f"{url!r} with this token cannot be asked: {error}",
                hint="give the server's address as http://HOST:PORT",
            ) from error

    def close(self) -> None:
        """Close connections."""
        self._http.close()

    # reading -----------------------------------------------------------------------------------

    def devices(self) -> tuple[DeviceView, ...]:
        """Return all devices."""
        return self._get("/devices", tuple[DeviceView, ...])

    def device(self, device: str) -> DeviceView:
        """Return one device."""
        return self._get(f"/devices/{_part(device)}", DeviceView)

    def models(self) -> tuple[ModelView, ...]:
        """Return all models."""
        return self._get("/models", tuple[ModelView, ...])

    def model(self, name: str) -> ModelView:
        """Return one model."""
        return self._get(f"/models/{_part(name)}", ModelView)

    def drift(
        self,
        name: str,
        version: str | None = None,
        level: str | None = None,
        subject: str | None = None,
    ) -> tuple[DriftView, ...]:
        """Return the newest judgement of each subject, worst first."""
        query = {"version": version, "level": level, "subject": subject}
        return self._get(f"/models/{_part(name)}/drift", tuple[DriftView, ...], query)

    def groups(self, name: str, version: str | None = None) -> GroupsView:
        """Return what a model's devices show together: roll-ups, and devices unlike the others."""
        return self._get(f"/models/{_part(name)}/groups", GroupsView, {"version": version})

    def words(self, name: str, version: str | None = None) -> WordsView:
        """Return the words of a version's categories that its vocabulary lacks."""
        return self._get(f"/models/{_part(name)}/words", WordsView, {"version": version})

    def stored_counts(
        self,
        name: str,
        version: str | None = None,
        subject: str = "fleet",
        step: Step = "day",
        *,
        since_ms: int | None = None,
        until_ms: int | None = None,
    ) -> StoredCountsView:
        """Return counts by period, as they are stored."""
        query = {"version": version, "subject": subject, "step": step, "since_ms": since_ms,
                 "until_ms": until_ms}  # fmt: skip
        return self._get(f"/models/{_part(name)}/counts", StoredCountsView, query)

    def alerts(self, state: str | None = None, limit: int = 100) -> tuple[AlertView, ...]:
        """Return alerts, newest first."""
        return self._get("/alerts", tuple[AlertView, ...], {"state": state, "limit": limit})

    def slices(
        self, name: str, version: str | None = None, subject: str = "fleet"
    ) -> tuple[SliceView, ...]:
        """Return the declared slices of a version, over its newest seven days."""
        query = {"version": version, "subject": subject}
        kind = tuple[SliceView, ...]
        return self._get(f"/models/{_part(name)}/slices", kind, query)

    def explain(self, alert: int) -> ExplanationView:
        """Return an alert in words."""
        return self._get(f"/alerts/{alert}/explanation", ExplanationView)

    def replay(self, alert: int) -> ReplayView:
        """Have the verdict of an alert recomputed."""
        return self._get(f"/alerts/{alert}/replay", ReplayView)

    def replays(self, limit: int = 1000) -> tuple[ReplayView, ...]:
        """Have the verdicts of the newest alerts recomputed."""
        kind = tuple[ReplayView, ...]
        return self._get("/alerts/replays", kind, {"limit": limit})

    def rollouts(self) -> tuple[RolloutView, ...]:
        """Return rollouts, newest first."""
        return self._get("/rollouts", tuple[RolloutView, ...])

    def rollout(self, number: int) -> RolloutView:
        """Return one rollout."""
        return self._get(f"/rollouts/{number}", RolloutView)

    def events(self, device: str | None = None, limit: int = 200) -> tuple[EventView, ...]:
        """Return what devices told, newest first."""
        return self._get("/events", tuple[EventView, ...], {"device": device, "limit": limit})

    def counts(self) -> tuple[CountsView, ...]:
        """Return telemetry bookkeeping by device."""
        return self._get("/counts", tuple[CountsView, ...])

    def audit(self, limit: int = 200) -> tuple[AuditView, ...]:
        """Return who did what, newest first."""
        return self._get("/audit", tuple[AuditView, ...], {"limit": limit})

    def health(self) -> HealthView:
        """Return whether the server works; an unhealthy one answers too."""
        answer = self._send("GET", "/health")
        if answer.status_code == _AWAY and answer.headers.get("content-type") == "application/json":
            return _decode(answer, HealthView)
        return _decode(_checked(answer), HealthView)

    # changing ----------------------------------------------------------------------------------

    def label(self, device: str, labels: Mapping[str, str]) -> DeviceView:
        """Set labels of a device."""
        body = {"labels": dict(labels)}
        return self._do("PATCH", f"/devices/{_part(device)}", DeviceView, body)

    def assign(self, device: str, slot: str, model: str, version: str) -> DeviceView:
        """Assign a version to a slot directly."""
        path = f"/devices/{_part(device)}/slots/{_part(slot)}"
        return self._do("PUT", path, DeviceView, {"model": model, "version": version})

    def enrol(self, device: str, csr_pem: str, labels: Mapping[str, str]) -> Enrolment:
        """Have a certificate request signed."""
        body = {"csr_pem": csr_pem, "labels": dict(labels)}
        return self._do("POST", f"/devices/{_part(device)}/enrolment", Enrolment, body)

    def acknowledge(self, alert: int) -> AlertView:
        """Mark an alert as seen."""
        return self._do("POST", f"/alerts/{alert}/acknowledge", AlertView)

    def start_rollout(self, spec: RolloutSpec) -> RolloutView:
        """Start a rollout."""
        return self._do("POST", "/rollouts", RolloutView, spec)

    def move_rollout(self, number: int, verb: str) -> RolloutView:
        """``pause``, ``resume`` or ``abort`` a rollout."""
        return self._do("POST", f"/rollouts/{number}/{_part(verb)}", RolloutView)

    # transport ---------------------------------------------------------------------------------

    def _get(self, path: str, kind: type[T], query: Mapping[str, Any] | None = None) -> T:
        return _decode(_checked(self._send("GET", path, query=query)), kind)

    def _do(self, method: str, path: str, kind: type[T], body: object = None) -> T:
        return _decode(_checked(self._send(method, path, body=body)), kind)

    def _send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: object = None,
    ) -> httpx.Response:
        try:
            return self._http.request(
                method,
                path,
                params={k: v for k, v in (query or {}).items() if v is not None},
                content=None if body is None else msgspec.json.encode(body),
                headers={} if body is None else {"content-type": "application/json"},
            )
        except httpx.TimeoutException as error:
            raise UnavailableError(
                f"{self.url} did not answer in time; a change may have been made or not",
                hint="look with 'whimbrel fleet audit' before you try again",
            ) from error
        except httpx.TransportError as error:
            raise UnavailableError(
                f"{self.url} does not answer: {error}",
                hint="is the server running ('whimbrel server run'), and is --server right?",
            ) from error


def _check_address(url: str) -> None:
    try:
        parts = urlsplit(url)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets that do not close, a port that is none
        good = False
    if not good:
        raise UsageError(
            f"{url!r} is not the address of a server",
            hint="give it as http://HOST:PORT with --server",
        )


def _part(text: str) -> str:
    return quote(text, safe="")


def _checked(answer: httpx.Response) -> httpx.Response:
    if answer.is_success:
        return answer
    kind = _KINDS.get(answer.status_code, WhimbrelError)
    try:
        problem = msgspec.json.decode(answer.content, type=_Problem)
    except msgspec.DecodeError:
        problem = _Problem()
    if not problem.code:
        raise kind(
            f"{answer.url} answered {answer.status_code}, and not as a Whimbrel server does",
            hint="does --server lead to a fleet server, or to something in front of it?",
            code="fleet.answer",
        )
    hint = problem.hint
    if answer.status_code == _UNAUTHORIZED:
        hint = "give a file with the operator token: --token-file, or WHIMBREL_FLEET_TOKEN_FILE"
    raise kind(problem.detail, hint=hint, code=problem.code)


def _decode(answer: httpx.Response, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(answer.content, type=kind)
    except msgspec.DecodeError as error:
        raise WhimbrelError(
            f"{answer.url} answered something else than expected: {error}",
            hint="is it a Whimbrel fleet server, of this version?",
            code="fleet.answer",
        ) from error
