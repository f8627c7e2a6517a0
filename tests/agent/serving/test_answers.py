"""What a worker answers: right numbers, and a clear sentence for whatever is not a request."""

from __future__ import annotations

import http.client
import json
import socket
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort
import pytest

from tests.support import models
from tests.support.worker import FakeControl, read_response, row_request, slot_spec
from whimbrel_agent.channel import ServingSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.models import MadeBundle
    from whimbrel_core.signing.keys import PrivateKey

LIMITS = ServingSettings(max_body_bytes=20_000, max_rows=8, max_header_bytes=2_000)


@pytest.fixture(scope="module")
def served(
    tmp_path_factory: pytest.TempPathFactory,
    churn: MadeBundle,
    flights: MadeBundle,
    publisher: PrivateKey,
) -> Iterator[FakeControl]:
    """One worker with five slots, for all the tests that change nothing."""
    root = tmp_path_factory.mktemp("served")
    fragile = models.build_bundle(root, models.fragile(), name="fragile", key=publisher)
    line = models.build_bundle(root, models.regression(), name="line", key=publisher)
    network = models.build_bundle(root, models.network(256), name="network", key=publisher)
    control = FakeControl(root / "data", listen_unix=True)
    control.start_worker(
        slot_spec(churn),
        slot_spec(flights, "flights"),
        slot_spec(fragile, "fragile"),
        slot_spec(line, "line"),
        slot_spec(network, "network"),
        settings=LIMITS,
    )
    yield control
    control.close()


def column(
    name: str, datatype: str, data: list[Any], shape: list[int] | None = None
) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape or [len(data), 1], "data": data}


def flight(**changed: dict[str, Any] | None) -> dict[str, Any]:
    inputs: dict[str, dict[str, Any] | None] = {
        "wind": column("wind", "FP32", [8.5]),
        "hour": column("hour", "INT64", [17]),
        "carrier": column("carrier", "BYTES", ["UA"]),
    }
    inputs.update(changed)
    return {"inputs": [item for item in inputs.values() if item is not None]}


def test_answers_are_those_of_the_model_itself(served: FakeControl, churn: MadeBundle) -> None:
    rows = churn.recipe.rows["x"][:6]
    status, answer = served.infer("churn", row_request(rows.tolist(), id="abc"))
    assert status == 200
    session = ort.InferenceSession(churn.recipe.model, providers=["CPUExecutionProvider"])
    label, probabilities = session.run(["label", "probabilities"], {"x": rows})
    assert answer["model_name"] == "churn"
    assert answer["model_version"] == "1.0.0"
    assert answer["id"] == "abc"
    first, second = answer["outputs"]
    assert first == {"name": "label", "datatype": "INT64", "shape": [6], "data": label.tolist()}
    assert second["shape"] == [6, 2]
    got = np.array(second["data"], np.float32).reshape(6, 2)
    assert np.array_equal(got, probabilities), "float32 must survive the JSON bit for bit"


def test_nested_data_mean_the_same_as_flat_data(served: FakeControl, churn: MadeBundle) -> None:
    rows = churn.recipe.rows["x"][:3].tolist()
    flat = row_request(rows)
    nested = row_request(rows)
    nested["inputs"][0]["data"] = rows  # type: ignore[index]
    assert served.infer("churn", flat) == served.infer("churn", nested)


def test_strings_integers_and_numbers_reach_the_model(served: FakeControl) -> None:
    status, answer = served.infer("flights", flight())
    assert status == 200
    assert answer["outputs"][0]["datatype"] == "BYTES"
    assert answer["outputs"][0]["data"] == ["late"]
    status, answer = served.infer("flights", flight(hour=column("hour", "INT64", [5], [1])))
    assert status == 200, "shape [n] is accepted for [n, 1]"
    status, answer = served.infer("flights", flight(carrier=column("carrier", "BYTES", ["??"])))
    assert status == 200, "an unseen word is the model's to judge"


def test_float64_answers_are_exact(served: FakeControl) -> None:
    body = {"inputs": [column("a", "FP64", [0.1, 1e300]), column("b", "FP64", [0.3, -1.0])]}
    status, answer = served.infer("line", body)
    assert status == 200
    assert answer["outputs"][0]["data"] == [2 * 0.1 - 0.3, 2e300 + 1.0]


def test_null_is_a_missing_number_and_infinity_is_written_as_null(served: FakeControl) -> None:
    body = {"inputs": [column("a", "FP64", [None, 1.5e308]), column("b", "FP64", [0.3, -1.0])]}
    assert served.infer("line", body)[1]["outputs"][0]["data"] == [None, None]


def test_only_the_outputs_asked_for_are_sent(served: FakeControl, churn: MadeBundle) -> None:
    rows = churn.recipe.rows["x"][:1].tolist()
    status, answer = served.infer("churn", row_request(rows, outputs=[{"name": "probabilities"}]))
    assert status == 200
    assert [output["name"] for output in answer["outputs"]] == ["probabilities"]
    status, answer = served.infer("churn", row_request(rows, outputs=[]))
    assert (status, answer["outputs"]) == (200, [])


def test_a_batching_model_answers_pipelined_requests_in_order(served: FakeControl) -> None:
    with socket.create_connection(("127.0.0.1", served.port)) as link:
        sent = b""
        for index in range(20):
            body = json.dumps(row_request([[index / 10] * 20], id=f"r{index}")).encode()
            sent += b"POST /v2/models/network/infer HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % len(
                body
            )
            sent += body
            if index == 10:
                sent += b"GET /v2/health/live HTTP/1.1\r\n\r\n"
        link.sendall(sent)
        stream = link.makefile("rb")
        seen = [read_response(stream) for _ in range(21)]
    ids = [answer.get("id", "live") for _, answer in seen]
    assert ids == [f"r{index}" for index in range(11)] + ["live"] + [
        f"r{index}" for index in range(11, 20)
    ]


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("/v2", {"name": "whimbrel"}),
        ("/v2/health/live", {"live": True}),
        ("/v2/health/ready", {"ready": True}),
        ("/v2/models", {"models": ["churn", "flights", "fragile", "line", "network"]}),
        ("/v2/models/churn", {"versions": ["1.0.0"]}),
        ("/v2/models/churn?verbose=1", {"versions": ["1.0.0"]}),
        ("/v2/models/churn/ready", {"ready": True}),
        ("/v2/models/churn/versions/1.0.0", {"name": "churn"}),
        ("/v2/models/churn/versions/1.0.0/ready", {"ready": True}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_protocol_tells_about_itself(
    served: FakeControl, path: str, part: dict[str, Any]
) -> None:
    status, answer = served.call("GET", path)
    assert status == 200
    assert {name: answer[name] for name in part} == part


def test_metadata_name_every_tensor(served: FakeControl, flights: MadeBundle) -> None:
    _, answer = served.call("GET", "/v2/models/flights")
    assert [item["name"] for item in answer["inputs"]] == ["wind", "hour", "carrier"]
    assert answer["inputs"][2] == {"name": "carrier", "datatype": "BYTES", "shape": [-1, 1]}
    assert answer["parameters"]["digest"] == flights.digest


def test_the_versioned_url_serves_that_version_only(served: FakeControl) -> None:
    body = row_request([[0.0] * 20])
    assert served.call("POST", "/v2/models/churn/versions/1.0.0/infer", body)[0] == 200
    status, answer = served.call("POST", "/v2/models/churn/versions/9.9.9/infer", body)
    assert (status, answer["code"]) == (404, "request.version")


def test_head_says_what_get_would(served: FakeControl) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=10)
    connection.request("HEAD", "/v2/models/churn")
    response = connection.getresponse()
    assert int(response.getheader("content-length", "0")) > 100
    assert response.read() == b""
    connection.close()


def test_a_unix_socket_serves_the_same(served: FakeControl) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        link.settimeout(10)
        link.connect(str(served.unix_path))
        link.sendall(b"GET /v2/health/live HTTP/1.1\r\n\r\n")
        assert read_response(link.makefile("rb")) == (200, {"live": True})


def test_metrics_are_prometheus_text(served: FakeControl) -> None:
    served.infer("churn", row_request([[0.0] * 20]))
    status, text = served.call("GET", "/metrics")
    assert status == 200
    lines = text.decode().splitlines()
    names = {line.split("{")[0].split(" ")[0] for line in lines if not line.startswith("#")}
    assert {"whimbrel_requests_total", "whimbrel_request_duration_seconds_bucket"} <= names
    ok = next(line for line in lines if 'slot="churn",outcome="ok"' in line)
    assert int(ok.rsplit(" ", 1)[1]) >= 1
    assert all(len(line.rsplit(" ", 1)) == 2 for line in lines)


X = row_request([[0.0] * 20])["inputs"][0]  # type: ignore[index]
BAD = [
    ("no body", "churn", b"", 400, "request.json"),
    ("not JSON", "churn", b"{", 400, "request.json"),
    ("not text", "churn", b'{"inputs": [{"name": "\xff"}]}', 400, "request.json"),
    ("no inputs", "churn", {}, 400, "request.format"),
    ("a list", "churn", [], 400, "request.format"),
    ("empty inputs", "churn", {"inputs": []}, 400, "request.input"),
    ("unknown input", "churn", {"inputs": [X, {**X, "name": "y"}]}, 400, "request.input"),
    ("input twice", "churn", {"inputs": [X, X]}, 400, "request.input"),
    ("missing input", "flights", flight(hour=None), 400, "request.input"),
    ("other datatype", "churn", {"inputs": [{**X, "datatype": "FP64"}]}, 400, "request.datatype"),
    ("no such datatype", "churn", {"inputs": [{**X, "datatype": "?"}]}, 400, "request.datatype"),
    ("narrow", "churn", row_request([[0.0] * 19]), 400, "request.shape"),
    ("no rows", "churn", {"inputs": [{**X, "shape": [0, 20]}]}, 400, "request.shape"),
    ("negative rows", "churn", {"inputs": [{**X, "shape": [-1, 20]}]}, 400, "request.shape"),
    ("no shape", "churn", {"inputs": [{**X, "shape": []}]}, 400, "request.shape"),
    ("deep shape", "churn", {"inputs": [{**X, "shape": [1, 1, 20]}]}, 400, "request.shape"),
    ("fewer data", "churn", {"inputs": [{**X, "data": [0.0] * 5}]}, 400, "request.shape"),
    ("no data", "churn", {"inputs": [{**X, "data": None}]}, 400, "request.data"),
    ("words", "churn", {"inputs": [{**X, "data": ["1"] * 20}]}, 400, "request.data"),
    ("truths", "churn", {"inputs": [{**X, "data": [True] * 20}]}, 400, "request.data"),
    (
        "ragged",
        "churn",
        {"inputs": [{**X, "shape": [2, 20], "data": [[0.0], [1.0, 2.0]]}]},
        400,
        "request.shape",
    ),
    ("a fraction", "flights", flight(hour=column("hour", "INT64", [1.5])), 400, "request.data"),
    ("null integer", "flights", flight(hour=column("hour", "INT64", [None])), 400, "request.data"),
    ("huge integer", "flights", flight(hour=column("hour", "INT64", [2**70])), 400, "request.data"),
    (
        "number as word",
        "flights",
        flight(carrier=column("carrier", "BYTES", [7])),
        400,
        "request.data",
    ),
    ("unequal rows", "flights", flight(hour=column("hour", "INT64", [1, 2])), 400, "request.shape"),
    ("too many rows", "churn", row_request([[0.0] * 20] * 9), 400, "request.rows"),
    ("too large", "churn", row_request([[0.123456789] * 2000]), 413, "request.size"),
    ("unknown output", "churn", {"inputs": [X], "outputs": [{"name": "z"}]}, 400, "request.output"),
    (
        "time in seconds",
        "churn",
        {"inputs": [X], "parameters": {"timestamp": 1_700_000_000}},
        400,
        "request.timestamp",
    ),
    (
        "local time",
        "churn",
        {"inputs": [X], "parameters": {"timestamp": "2024-01-01T00:00:00"}},
        400,
        "request.timestamp",
    ),
    (
        "no time",
        "churn",
        {"inputs": [X], "parameters": {"timestamp": "soon"}},
        400,
        "request.format",
    ),
    ("too few ids", "churn", {"inputs": [X], "parameters": {"ids": []}}, 400, "request.ids"),
    ("empty id", "churn", {"inputs": [X], "parameters": {"ids": [""]}}, 400, "request.ids"),
    ("nested without end", "churn", b'{"inputs": [{"data": ' + b"[" * 15000, 400, "request.json"),
    ("unknown slot", "nobody", {"inputs": [X]}, 404, "request.slot"),
    ("model fails", "fragile", {"inputs": [column("i", "INT64", [12])]}, 500, "model.failed"),
]


@pytest.mark.parametrize(
    ("slot", "body", "status", "code"), [case[1:] for case in BAD], ids=[case[0] for case in BAD]
)
def test_a_bad_request_gets_a_sentence_a_code_and_the_worker_serves_on(
    served: FakeControl, slot: str, body: object, status: int, code: str
) -> None:
    got, answer = served.infer(slot, body)
    assert (got, answer["code"]) == (status, code), answer
    assert len(answer["error"]) > 10
    assert set(answer) == {"error", "code", "hint"}
    assert served.infer("churn", row_request([[0.0] * 20]))[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, "request.not_found"),
        ("GET", "/v2/models/nobody", 404, "request.slot"),
        ("GET", "/v2/models/churn/infer", 405, "request.method"),
        ("POST", "/v2/models/churn", 405, "request.method"),
        ("POST", "/else", 404, "request.not_found"),
        ("DELETE", "/v2/models/churn", 405, "request.method"),
        ("POST", "/v2/models/churn/labels", 400, "request.labels"),
    ],
    ids=str,
)
def test_a_wrong_url_or_method_is_named(
    served: FakeControl, method: str, path: str, status: int, code: str
) -> None:
    got, answer = served.call(method, path)
    assert (got, answer["code"]) == (status, code)


def test_a_model_that_fails_is_counted_and_answers_the_next_request(served: FakeControl) -> None:
    bad = {"inputs": [column("i", "INT64", [12])]}
    status, answer = served.infer("fragile", bad)
    assert status == 500
    assert "fragile-1.0.0 failed" in answer["error"]
    assert served.infer("fragile", {"inputs": [column("i", "INT64", [3])]})[1]["outputs"][0][
        "data"
    ] == [3.0]
    _, text = served.call("GET", "/metrics")
    failed = next(
        line for line in text.decode().splitlines() if 'slot="fragile",outcome="failed"' in line
    )
    assert int(failed.rsplit(" ", 1)[1]) >= 1


def test_headers_beyond_the_limit_are_refused(served: FakeControl) -> None:
    status, answer = served.call("GET", "/v2", headers={"x": "y" * 3000})
    assert (status, answer["code"]) == (431, "request.headers")


def test_a_compressed_body_is_refused_by_name(served: FakeControl) -> None:
    headers = {"content-encoding": "gzip"}
    status, answer = served.call("POST", "/v2/models/churn/infer", b"\x1f\x8b", headers)
    assert (status, answer["code"]) == (415, "request.encoding")


def test_a_client_that_asks_before_it_sends_is_invited(served: FakeControl) -> None:
    body = json.dumps(row_request([[0.0] * 20])).encode()
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as link:
        link.sendall(
            b"POST /v2/models/churn/infer HTTP/1.1\r\nexpect: 100-continue\r\n"
            b"content-length: %d\r\n\r\n" % len(body)
        )
        stream = link.makefile("rb")
        assert stream.readline() == b"HTTP/1.1 100 Continue\r\n"
        assert stream.readline() == b"\r\n"
        link.sendall(body)
        assert read_response(stream)[0] == 200


def test_a_chunked_body_is_read_and_limited(served: FakeControl) -> None:
    body = json.dumps(row_request([[0.0] * 20])).encode()
    head = b"POST /v2/models/churn/infer HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n"
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as link:
        stream = link.makefile("rb")
        link.sendall(head)
        for start in range(0, len(body), 7):
            piece = body[start : start + 7]
            link.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
        link.sendall(b"0\r\n\r\n")
        assert read_response(stream)[0] == 200
        link.sendall(head + b"ffffff\r\n" + b" " * 30_000)
        assert read_response(stream)[0] == 413
        assert stream.read() == b""


def test_bytes_that_are_not_http_get_an_answer_and_the_end(served: FakeControl) -> None:
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as link:
        link.sendall(b"\x16\x03\x01\x02\x00 hello\r\n\r\n")
        stream = link.makefile("rb")
        status, answer = read_response(stream)
        assert (status, answer["code"]) == (400, "request.http")
        assert stream.read() == b""
