"""From alerts to people and pipelines: webhooks, and requests for retraining.

An alert is announced until every address took it or gave up; a retraining request is stored
before its command runs, and a command that a crash cut off runs again: at least once, for exactly
one request per version and cause.
"""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa

from whimbrel_core.errors import WhimbrelError
from whimbrel_server import triggers
from whimbrel_server.domain import retraining
from whimbrel_server.store import alerts, audit, schema

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from whimbrel_server.config import Config
    from whimbrel_server.repository import Repository
    from whimbrel_server.store.database import Database

log = logging.getLogger(__name__)

_WORKERS = 4


class Announcer:
    """Looks for what is to be told, and tells it on threads of its own.

    Args:
        database, repository: alerts, and which version is the newest.
        config: ``[retraining]`` and ``[notify]``.
        env: environment for commands.
        now_ms: the wall clock.
    """

    def __init__(
        self,
        database: Database,
        repository: Repository,
        config: Config,
        *,
        env: Mapping[str, str],
        now_ms: Callable[[], int],
    ) -> None:
        self._database, self._repository, self._config = database, repository, config
        self._env, self._now_ms = env, now_ms
        self._stopping = threading.Event()
        self._workers = ThreadPoolExecutor(_WORKERS, thread_name_prefix="announce")
        # Commands run one after the other: retraining takes the whole machine.
        self._commands = ThreadPoolExecutor(1, thread_name_prefix="retraining")
        self._under_way: set[str] = set()

    def stop(self) -> None:
        """Finish the tries that are under way; what was not told is told after the next start."""
        self._stopping.set()
        self._workers.shutdown(wait=True, cancel_futures=True)
        self._commands.shutdown(wait=False, cancel_futures=True)

    def tick(self) -> None:
        """Begin to tell what nobody was told yet."""
        with self._database.read() as connection:
            waiting = alerts.unannounced(connection)
        for alert in waiting:
            event = triggers.alert_event(alert)
            if event.id not in self._under_way:
                self._under_way.add(event.id)
                self._workers.submit(self._tell, event.id, alert.id, event)
        self._request_retraining()
        self._run_requests()

    def _tell(self, key: str, alert_id: int, event: triggers.CloudEvent) -> None:
        try:
            self._post_everywhere(event)
            if not self._stopping.is_set():
                self._database.write(lambda c: alerts.mark_announced(c, alert_id))
        except Exception:  # the other alerts go on; this one stays unannounced, and is tried again
            log.exception("alert %d could not be announced", alert_id)
        finally:
            self._under_way.discard(key)

    def _post_everywhere(self, event: triggers.CloudEvent) -> None:
        notify = self._config.notify
        for url in notify.webhooks:
            try:
                triggers.post(
                    url,
                    event,
                    timeout_s=notify.timeout_s,
                    attempts=notify.attempts,
                    pause=self._stopping.wait,
                )
            except WhimbrelError as error:
                if self._stopping.is_set():
                    return
                log.warning("%s", error)
                self._note("webhook.failed", url, {"event": event.id, "problem": error.message})

    def _request_retraining(self) -> None:
        asked = self._config.retraining
        policy = retraining.RetrainingPolicy(
            kinds=asked.kinds,
            severity=asked.severity,
            devices=asked.devices,
            cooldown_s=asked.cooldown_hours * 3600,
        )
        table = schema.retrainings
        newest: dict[str, str] = {}
        for published in self._repository.published():
            newest.setdefault(published.name, published.version)
        with self._database.read() as connection:
            found = alerts.lasting(connection, asked.kinds)
            columns = (table.c.model, table.c.version, table.c.cause, table.c.at_ms)
            past = [retraining.Past(*row) for row in connection.execute(sa.select(*columns))]
        for request in retraining.decide(policy, found, past, newest):
            self._store(request)

    def _store(self, request: retraining.Request) -> None:
        now_ms = self._now_ms()
        published = self._repository.find(request.model, request.version)
        event = triggers.CloudEvent(
            id=f"retraining-{request.model}-{request.version}-{request.cause}",
            type=triggers.RETRAINING_REQUESTED,
            source=triggers.SOURCE,
            subject=request.model,
            time=triggers.rfc3339(now_ms),
            data={
                **msgspec.to_builtins(request),
                "digest": published.digest,
                "release": published.release,
                "at": triggers.rfc3339(request.at_ms),
            },
        )
        row = {
            "model": request.model,
            "version": request.version,
            "cause": request.cause,
            "at_ms": request.at_ms,
            "requested_ms": now_ms,
            "state": "requested",
            "event": event.encode(),
        }

        def change(connection: sa.Connection) -> None:
            connection.execute(sa.insert(schema.retrainings), row)
            what = f"{request.model} {request.version}"
            audit.note(connection, now_ms, audit.SERVER, "retraining.requested", what, event.data)
            devices = f" on {', '.join(request.devices)}" if request.devices else ""
            features = f" ({', '.join(request.features)})" if request.features else ""
            alerts.raise_alert(
                connection,
                alerts.NewAlert(
                    cause=f"retraining/{request.model}/{request.version}/{request.cause}",
                    at_ms=request.at_ms,
                    kind="retraining",
                    severity="notice",
                    message=f"retraining of {what} was requested for {request.cause}{devices}{features}",
                    model=request.model,
                    version=request.version,
                    evidence=event.data,
                ),
                now_ms,
            )

        self._database.write(change)
        log.info("retraining of %s %s requested: %s", request.model, request.version, request.cause)

    def _run_requests(self) -> None:
        table = schema.retrainings
        with self._database.read() as connection:
            rows = connection.execute(
                sa.select(table.c.id, table.c.event).where(table.c.state == "requested")
            ).all()
        for row in rows:
            key = f"retraining/{row.id}"
            if key not in self._under_way:
                self._under_way.add(key)
                event = msgspec.json.decode(row.event, type=triggers.CloudEvent)
                self._commands.submit(self._run, key, row.id, event)

    def _run(self, key: str, request_id: int, event: triggers.CloudEvent) -> None:
        try:
            self._post_everywhere(event)
            command = self._config.retraining.command
            result = triggers.CommandResult(0, "no command is configured", 0.0)
            if command:
                result = self._run_command(command, event)
            if self._stopping.is_set():
                # A stopping server may have ended the command: it runs again after the start.
                return
            state = "done" if result.code == 0 else "failed"
            values = {"state": state, "output": result.output, "seconds": result.seconds}
            detail = {"event": event.id, "code": result.code, **values}
            now_ms = self._now_ms()

            def change(connection: sa.Connection) -> None:
                table = schema.retrainings
                connection.execute(
                    sa.update(table).where(table.c.id == request_id).values(**values)
                )
                action = f"retraining.{state}"
                audit.note(connection, now_ms, audit.SERVER, action, event.subject, detail)

            self._database.write(change)
            log.info("retraining %s: %s in %.1f s", event.id, state, result.seconds)
        except Exception:  # a trigger's failure must not end the thread that runs all of them
            log.exception("retraining request %d could not be carried out", request_id)
        finally:
            self._under_way.discard(key)

    def _run_command(
        self, command: tuple[str, ...], event: triggers.CloudEvent
    ) -> triggers.CommandResult:
        try:
            return triggers.run_command(
                command,
                event,
                timeout_s=self._config.retraining.timeout_s,
                env=self._env,
                stopping=self._stopping.is_set,
            )
        except WhimbrelError as error:
            return triggers.CommandResult(None, error.message, 0.0)

    def _note(self, action: str, subject: str, detail: dict[str, Any]) -> None:
        now_ms = self._now_ms()
        self._database.write(
            lambda connection: audit.note(connection, now_ms, audit.SERVER, action, subject, detail)
        )
