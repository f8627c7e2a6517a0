"""The OpenAPI document says what the server does, completely and without contradiction."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from whimbrel_server.api.bodies import AssignmentBody, EnrolmentBody, LabelsBody
from whimbrel_server.views.rollouts import RolloutSpec
from whimbrel_server.web.render import CONTENT_SECURITY_POLICY

if TYPE_CHECKING:
    from litestar import Litestar
    from litestar.testing import TestClient

PROMISED = {
    ("get", "/api/v1/devices"),
    ("get", "/api/v1/devices/{device}"),
    ("patch", "/api/v1/devices/{device}"),
    ("put", "/api/v1/devices/{device}/slots/{slot}"),
    ("post", "/api/v1/devices/{device}/enrolment"),
    ("get", "/api/v1/models"),
    ("get", "/api/v1/models/{name}"),
    ("get", "/api/v1/models/{name}/drift"),
    ("get", "/api/v1/models/{name}/groups"),
    ("get", "/api/v1/models/{name}/counts"),
    ("get", "/api/v1/models/{name}/slices"),
    ("get", "/api/v1/models/{name}/words"),
    ("get", "/api/v1/models/{name}/series"),
    ("get", "/api/v1/models/{name}/histogram"),
    ("get", "/api/v1/models/{name}/quality"),
    ("get", "/api/v1/alerts"),
    ("get", "/api/v1/alerts/replays"),
    ("get", "/api/v1/alerts/{number}/explanation"),
    ("get", "/api/v1/alerts/{number}/replay"),
    ("post", "/api/v1/alerts/{number}/acknowledge"),
    ("get", "/api/v1/rollouts"),
    ("post", "/api/v1/rollouts"),
    ("get", "/api/v1/rollouts/{number}"),
    ("post", "/api/v1/rollouts/{number}/pause"),
    ("post", "/api/v1/rollouts/{number}/resume"),
    ("post", "/api/v1/rollouts/{number}/abort"),
    ("get", "/api/v1/events"),
    ("get", "/api/v1/counts"),
    ("get", "/api/v1/audit"),
    ("get", "/api/v1/health"),
    ("get", "/api/v1/repository"),
    ("get", "/api/v1/repository/uploads/{digest}"),
    ("patch", "/api/v1/repository/uploads/{digest}"),
    ("put", "/api/v1/repository/metadata/{name}"),
    ("get", "/repository/{file_path}"),
    ("head", "/repository/{file_path}"),
    ("get", "/metrics"),
}


@pytest.fixture
def document(client: TestClient[Litestar]) -> dict[str, Any]:
    answer = client.get("/schema/openapi.json")
    assert answer.status_code == 200
    document: dict[str, Any] = json.loads(answer.content)
    return document


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (method, path, item[method])
        for path, item in document["paths"].items()
        for method in item
        if method in {"get", "post", "put", "patch", "delete", "head"}
    ]


def test_exactly_the_promised_operations_are_documented(document: dict[str, Any]) -> None:
    assert {(method, path) for method, path, _ in operations(document)} == PROMISED


def test_every_operation_has_summary_description_known_tag_and_its_own_id(
    document: dict[str, Any],
) -> None:
    tags = {tag["name"] for tag in document["tags"]}
    ids = []
    for method, path, operation in operations(document):
        assert operation.get("summary"), (method, path)
        assert operation.get("description"), (method, path)
        assert set(operation["tags"]) <= tags, (method, path)
        assert operation["tags"], (method, path)
        ids.append(operation["operationId"])
    assert len(ids) == len(set(ids))


def test_every_reference_leads_somewhere_and_every_path_parameter_is_declared(
    document: dict[str, Any],
) -> None:
    for reference in re.findall(r'"\$ref": ?"#/([^"]+)"', json.dumps(document)):
        node: Any = document
        for part in reference.split("/"):
            node = node[part]
    for method, path, operation in operations(document):
        declared = {p["name"] for p in operation.get("parameters", ()) if p["in"] == "path"}
        assert declared == set(re.findall(r"{(\w+)}", path)), (method, path)


def test_changes_and_reads_name_the_token_and_the_problems_they_answer(
    document: dict[str, Any],
) -> None:
    for method, path, operation in operations(document):
        if path.startswith("/api/v1/") and path != "/api/v1/health":
            assert {"400", "401", "404"} <= set(operation["responses"]), (method, path)
            assert operation["security"] == [{"operator": []}]
            content = operation["responses"]["401"]["content"]
            assert "application/problem+json" in content
        if method in {"post", "put", "patch"}:
            assert {"409", "422"} <= set(operation["responses"]), (method, path)


def test_body_examples_are_valid_bodies(document: dict[str, Any]) -> None:
    kinds = {
        ("patch", "/api/v1/devices/{device}"): LabelsBody,
        ("put", "/api/v1/devices/{device}/slots/{slot}"): AssignmentBody,
        ("post", "/api/v1/devices/{device}/enrolment"): EnrolmentBody,
        ("post", "/api/v1/rollouts"): RolloutSpec,
    }
    for method, path, operation in operations(document):
        if "requestBody" not in operation:
            continue
        content = operation["requestBody"]["content"]["application/json"]
        examples = content["schema"]["examples"]
        assert examples, path
        for example in examples:
            msgspec.convert(example, kinds.pop((method, path)))
    assert not kinds


def test_the_reference_page_shows_every_operation_without_foreign_assets(
    client: TestClient[Litestar], document: dict[str, Any]
) -> None:
    answer = client.get("/schema")
    assert answer.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    text = answer.text
    for _, path, operation in operations(document):
        assert f'id="{operation["operationId"]}"' in text
        assert path in text
    assert "csr_pem" in text
    assert "https://" not in text
    assert "http://" not in text
