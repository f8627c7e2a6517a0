"""Somebody who asks a worker without pause."""

from __future__ import annotations

import http.client
import json
import threading

from tests.support.worker import WAIT_S, row_request


class Client(threading.Thread):
    """Hammers one slot over a connection that it keeps as long as the server does."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self._port = port
        self._stop_asked = threading.Event()
        self.counted = threading.Condition()
        self.answered = 0
        self.versions: set[str] = set()
        self.failures: list[str] = []
        self.connections = 0

    def run(self) -> None:
        body = json.dumps(row_request([[0.25] * 20])).encode()
        connection: http.client.HTTPConnection | None = None
        while not self._stop_asked.is_set():
            if connection is None:
                connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
                self.connections += 1
            try:
                connection.request("POST", "/v2/models/churn/infer", body)
                response = connection.getresponse()
                answer = json.loads(response.read())
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                connection.close()
                connection = None
                continue
            if response.status != 200:
                self.failures.append(str(answer))
            if response.getheader("connection") == "close":
                connection.close()
                connection = None
            with self.counted:
                self.answered += 1
                self.versions.add(answer.get("model_version", "?"))
                self.counted.notify_all()
        if connection is not None:
            connection.close()

    def wait_for(self, answered: int) -> None:
        with self.counted:
            assert self.counted.wait_for(lambda: self.answered >= answered, WAIT_S), self.failures

    def stop(self) -> None:
        self._stop_asked.set()
        self.join(WAIT_S)
