"""Applications that ask one device for predictions, on and on, and keep their own count.

Each request has the event time of a window of its own, so that it closes the one before: a stream
of requests is a stream of windows.
"""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from typing import TYPE_CHECKING, Any

from tests.support.shelf import MODEL, WINDOW_S, rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.agent import AgentProcess

START_MS = 1_735_689_600_000
WINDOW_MS = WINDOW_S * 1000
MAX_ROWS = 6
PACE_S = 0.02
WAIT_S = 60.0


class Traffic:
    """One caller of one device.

    Args:
        agent: the device.
        seed: of the rows' numbers and values.
        labels: send the truth about each prediction right after it.

    Attributes:
        requests: answered ones.
        rows: predicted in them.
        in_doubt: rows of requests that were sent whole and never answered.
        refused: what was answered with anything but 200.
        versions: that answered, in order, each once per run of answers.
    """

    def __init__(
        self, agent: AgentProcess, seed: int, *, labels: bool = False, start_ms: int = START_MS
    ) -> None:
        self.requests = self.rows = self.in_doubt = self.unreached = self.joined = 0
        self.refused: list[str] = []
        self.versions: list[str] = []
        self._agent = agent
        self._labels = labels
        self._next_ms = start_ms
        self._random = random.Random(seed)
        self._seed = seed
        self._connection: http.client.HTTPConnection | None = None
        self._stop = threading.Event()
        self._moved = threading.Condition()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> Traffic:
        """Begin to ask."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """End after the present request."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(WAIT_S)
        self.hang_up()

    def hang_up(self) -> None:
        """Close the connection: an agent that ends waits for the ones that are open."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def move_to(self, agent: AgentProcess) -> None:
        """Ask another process of the same device from now on."""
        self.hang_up()
        self._agent = agent

    def wait_more(self, requests: int) -> None:
        """Wait until so many more requests were answered."""
        goal = self.requests + requests
        self.wait_for(lambda: self.requests >= goal)

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition that answers may bring about."""
        with self._moved:
            came = self._moved.wait_for(condition, WAIT_S)
        assert came, f"{self.requests} requests, {self.versions}: {self._agent.status()}"

    def ask_for(self, requests: int) -> None:
        """Ask, in the caller's thread, until so many more requests were answered."""
        goal, deadline = self.requests + requests, time.monotonic() + WAIT_S
        while self.requests < goal:
            assert self.ask() or time.monotonic() < deadline, self.refused[-3:]
            time.sleep(PACE_S if self.unreached else 0)

    def ask(self) -> bool:
        """Make one request, in the caller's thread; return whether it was answered."""
        count = self._random.randint(1, MAX_ROWS)
        self._seed += 1
        values, truth = rows(count, self._seed)
        ids = [f"{self._seed}/{row}" for row in range(count)]
        item = {
            "name": "features",
            "shape": [count, values.shape[1]],
            "datatype": "FP32",
            "data": values.ravel().tolist(),
        }
        body = {"parameters": {"timestamp": self._next_ms, "ids": ids}, "inputs": [item]}
        answer = self._post("infer", body, count)
        if answer is None:
            return False
        self._next_ms += WINDOW_MS
        with self._moved:
            self.requests += 1
            self.rows += count
            if self.versions[-1:] != [answer["model_version"]]:
                self.versions.append(answer["model_version"])
            self._moved.notify_all()
        if self._labels:
            told = [
                {"id": name, "label": int(value)} for name, value in zip(ids, truth, strict=True)
            ]
            joined = self._post("labels", {"labels": told}, 0)
            self.joined += joined["joined"] if joined else 0
        return True

    def _run(self) -> None:
        while not self._stop.is_set():
            self.ask()
            self._stop.wait(PACE_S)

    def _post(self, verb: str, body: object, count: int) -> dict[str, Any] | None:
        sent = False
        try:
            if self._connection is None:
                address = json.loads(self._agent.home.http_json.read_bytes())
                connection = http.client.HTTPConnection(
                    address["host"], address["port"], timeout=30
                )
                connection.connect()
                self._connection = connection
            sent = True
            head = {"content-type": "application/json"}
            path = f"/v2/models/{MODEL}/{verb}"
            self._connection.request("POST", path, json.dumps(body), head)
            response = self._connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException, ValueError):
            self.hang_up()
            self.in_doubt += count * sent
            self.unreached += 1
            return None
        if response.status != http.HTTPStatus.OK:
            self.refused.append(f"{response.status} {content[:300]!r}")
            return None
        found: dict[str, Any] = json.loads(content)
        return found
