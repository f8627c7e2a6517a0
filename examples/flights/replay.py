"""One airport's year against its own device: a request per hour of flights, then the truth.

Requests carry their event time and one id per flight; a flight's true label is sent when its
departure is known, which is after the prediction and often the next day.
"""

from __future__ import annotations

import http.client
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np

from examples.flights.data import CATEGORICAL, FEATURES, Flights

if TYPE_CHECKING:
    from datetime import date

    from numpy.typing import NDArray

SLOT: Final = "flights"
_HOUR_MS: Final = 3_600_000
_DAY_MS: Final = 86_400_000
_TRIES: Final = 3


@dataclass(slots=True)
class Answers:
    """What a device answered, flight by flight (n rows)."""

    time_ms: list[int] = field(default_factory=list)
    late: list[int] = field(default_factory=list)
    score: list[float] = field(default_factory=list)
    version: list[str] = field(default_factory=list)


class Replay:
    """The flights of one device, day by day, over one keep-alive connection."""

    def __init__(self, device: str, flights: Flights, port: int) -> None:
        self.device = device
        self.answers = Answers()
        self.requests = 0
        self.failed: list[str] = []
        self.labels_joined = 0
        self.labels_unknown = 0
        self._port = port
        self._connection: http.client.HTTPConnection | None = None
        self._flights = flights
        self._columns: list[NDArray[Any]] = [flights.features[n].to_numpy() for n in FEATURES]
        self._order = np.argsort(flights.label_ms, kind="stable")
        self._label_times = flights.label_ms[self._order]
        self._labelled = 0

    def play(self, day: date) -> None:
        """Ask the device about every flight of a UTC day, hour by hour, then tell what is known."""
        start = int(np.datetime64(day, "ms").astype(np.int64))
        times = self._flights.time_ms
        low, high = np.searchsorted(times, [start, start + _DAY_MS])
        at = int(low)
        while at < high:
            hour = int(times[at]) // _HOUR_MS
            end = int(np.searchsorted(times, (hour + 1) * _HOUR_MS))
            self._predict(at, end)
            at = end
        self._tell_labels(int(low), start + _DAY_MS)

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _predict(self, low: int, high: int) -> None:
        flights, rows = self._flights, high - low
        inputs = []
        for name, column in zip(FEATURES, self._columns, strict=True):
            kind = "BYTES" if name in CATEGORICAL else "FP32"
            data = column[low:high].tolist()  # msgspec writes a NaN as null
            inputs.append({"name": name, "datatype": kind, "shape": [rows, 1], "data": data})
        answer = self._post(
            f"/v2/models/{SLOT}/infer",
            {
                "parameters": {
                    "timestamp": int(flights.time_ms[low]),
                    "ids": flights.ids[low:high].tolist(),
                },
                "inputs": inputs,
            },
        )
        if answer is None:
            return
        scores = next(o["data"] for o in answer["outputs"] if o["datatype"] == "FP32")
        self.answers.time_ms += flights.time_ms[low:high].tolist()
        self.answers.late += flights.late[low:high].tolist()
        self.answers.score += np.reshape(scores, (rows, 2))[:, 1].tolist()
        self.answers.version += [answer["model_version"]] * rows

    def _tell_labels(self, low: int, until_ms: int) -> None:
        """Send the labels that became known before ``until_ms``, of flights since the start."""
        end = int(np.searchsorted(self._label_times, until_ms))
        if not self._labelled:  # the flights before the replay began were never asked about
            self._labelled = int(np.searchsorted(self._label_times, self._flights.time_ms[low]))
        known = self._order[self._labelled : end]
        self._labelled = end
        if not len(known):
            return
        labels = [
            {"id": str(self._flights.ids[i]), "label": str(self._flights.late[i])} for i in known
        ]
        answer = self._post(f"/v2/models/{SLOT}/labels", {"labels": labels})
        if answer is not None:
            self.labels_joined += answer["joined"]
            self.labels_unknown += answer["unknown"]

    def _post(self, path: str, body: dict[str, Any]) -> Any:  # noqa: ANN401 - decoded JSON
        """Return the decoded answer, or None after recording the failure."""
        payload = msgspec.json.encode(body)
        self.requests += 1
        for attempt in range(_TRIES):
            try:
                if self._connection is None:
                    self._connection = http.client.HTTPConnection(
                        "127.0.0.1", self._port, timeout=30
                    )
                    self._connection.connect()
                    self._connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._connection.request(
                    "POST", path, payload, {"Content-Type": "application/json"}
                )
                response = self._connection.getresponse()
                content = response.read()
                if response.status != http.HTTPStatus.OK:
                    self.failed.append(f"{path}: {response.status} {content[:200]!r}")
                    return None
                return msgspec.json.decode(content)
            except (OSError, http.client.HTTPException) as error:
                # A server may close an idle connection just as a request is sent on it; any
                # client asks again then. More than that is a failure, and is counted.
                self.close()
                if attempt == _TRIES - 1:
                    self.failed.append(f"{path}: {error!r}")
        return None
