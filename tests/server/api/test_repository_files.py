"""The repository over HTTP: whole, in parts, conditionally, and never anything outside it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whimbrel_server.api.repository import Span, wanted

if TYPE_CHECKING:
    from pathlib import Path

    from litestar import Litestar
    from litestar.testing import TestClient

NAME = "a" * 64 + ".flights-1.0.0.whim"
URL = f"/repository/targets/bundles/flights/{NAME}"
DATA = bytes(range(256)) * 2048


@pytest.fixture
def bundle(repository: Path) -> bytes:
    path = repository / "targets" / "bundles" / "flights" / NAME
    path.parent.mkdir(parents=True)
    path.write_bytes(DATA)
    return DATA


def test_a_file_comes_whole_with_what_a_resuming_client_needs(
    client: TestClient[Litestar], bundle: bytes
) -> None:
    answer = client.get(URL)
    assert (answer.status_code, answer.content) == (200, bundle)
    assert answer.headers["content-length"] == str(len(bundle))
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["etag"]
    assert "immutable" in answer.headers["cache-control"]
    assert "content-encoding" not in answer.headers


def test_metadata_that_changes_is_asked_for_again_and_the_numbered_is_kept(
    client: TestClient[Litestar], repository: Path
) -> None:
    (repository / "metadata" / "7.targets.json").write_text("{}")
    assert client.get("/repository/metadata/timestamp.json").headers["cache-control"] == "no-cache"
    assert "immutable" in client.get("/repository/metadata/7.targets.json").headers["cache-control"]


def test_head_tells_the_length_without_the_bytes(
    client: TestClient[Litestar], bundle: bytes
) -> None:
    answer = client.head(URL)
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-length"] == str(len(bundle))
    assert answer.headers["etag"] == client.get(URL).headers["etag"]


@pytest.mark.parametrize(
    ("header", "status", "part", "content_range"),
    [
        ("bytes=0-99", 206, DATA[:100], f"bytes 0-99/{len(DATA)}"),
        ("bytes=524287-", 206, DATA[-1:], f"bytes 524287-524287/{len(DATA)}"),
        ("bytes=-300", 206, DATA[-300:], f"bytes 523988-524287/{len(DATA)}"),
        ("bytes=-9999999", 206, DATA, f"bytes 0-524287/{len(DATA)}"),
        ("bytes=500000-9999999", 206, DATA[500000:], f"bytes 500000-524287/{len(DATA)}"),
        ("bytes=524288-", 416, b"", f"bytes */{len(DATA)}"),
        ("bytes=-0", 416, b"", f"bytes */{len(DATA)}"),
        ("bytes=9-3", 200, DATA, None),
        ("bytes=0-1,4-5", 200, DATA, None),
        ("bytes=a-b", 200, DATA, None),
        ("bytes=-", 200, DATA, None),
        ("rows=0-1", 200, DATA, None),
        ("bytes=99999999999999999999-", 200, DATA, None),
    ],
)
def test_a_range_answers_those_bytes_or_says_why_not(
    client: TestClient[Litestar],
    bundle: bytes,
    header: str,
    status: int,
    part: bytes,
    content_range: str | None,
) -> None:
    answer = client.get(URL, headers={"range": header})
    assert (answer.status_code, answer.content) == (status, part)
    assert answer.headers.get("content-range") == content_range


@given(first=st.integers(0, 200), last=st.integers(0, 200), size=st.integers(0, 150))
def test_a_span_is_always_inside_the_file(first: int, last: int, size: int) -> None:
    for header in (f"bytes={first}-{last}", f"bytes={first}-", f"bytes=-{last}"):
        span = wanted(header, size)
        if isinstance(span, Span):
            assert 0 <= span.first <= span.last < size or (size == 0 and span.length == 0)


def test_a_download_goes_on_where_it_stopped_unless_the_file_is_another(
    client: TestClient[Litestar], bundle: bytes, repository: Path
) -> None:
    etag = client.get(URL, headers={"range": "bytes=0-9"}).headers["etag"]
    rest = client.get(URL, headers={"range": "bytes=10-", "if-range": etag})
    assert (rest.status_code, rest.content) == (206, bundle[10:])
    changed = repository / "targets" / "bundles" / "flights" / "new"
    changed.write_bytes(b"other content")
    changed.replace(changed.with_name(NAME))
    whole = client.get(URL, headers={"range": "bytes=10-", "if-range": etag})
    assert (whole.status_code, whole.content) == (200, b"other content")


def test_what_a_client_has_already_is_not_sent_again(
    client: TestClient[Litestar], bundle: bytes
) -> None:
    etag = client.get(URL).headers["etag"]
    answer = client.get(URL, headers={"if-none-match": etag})
    assert (answer.status_code, answer.content) == (304, b"")


def test_an_empty_file_is_a_file(client: TestClient[Litestar], repository: Path) -> None:
    (repository / "targets" / "empty").write_bytes(b"")
    answer = client.get("/repository/targets/empty")
    assert (answer.status_code, answer.content) == (200, b"")
    assert client.get("/repository/targets/empty", headers={"range": "bytes=0-"}).status_code == 416


@pytest.mark.parametrize(
    "path",
    [
        "../secret",
        "metadata/../../secret",
        "metadata/%2e%2e/%2e%2e/secret",
        "metadata%2f..%2f..%2fsecret",
        "/etc/passwd",
        "%2fetc%2fpasswd",
        "metadata/.hidden",
        "targets/link-out",
        "targets/folder-out/secret",
        "metadata/timestamp.json%00.json",
        "metadata/timestamp.json/more",
        "metadata",
        "targets/",
        "keys/private.pem",
        "metadata/missing.json",
        "metadata/" + "x" * 5000,
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_nothing_outside_is_served_and_all_of_it_looks_the_same(
    client: TestClient[Litestar], repository: Path, path: str, method: str
) -> None:
    (repository.parent / "secret").write_text("the secret")
    (repository / "metadata" / ".hidden").write_text("the secret")
    (repository / "keys").mkdir()
    (repository / "keys" / "private.pem").write_text("the secret")
    (repository / "targets" / "link-out").symlink_to(repository.parent / "secret")
    (repository / "targets" / "folder-out").symlink_to(repository.parent)
    answer = client.request(method, f"/repository/{path}")
    assert answer.status_code == 404
    assert b"the secret" not in answer.content


def test_a_link_that_stays_inside_is_served(client: TestClient[Litestar], repository: Path) -> None:
    (repository / "metadata" / "root.json").symlink_to("timestamp.json")
    assert client.get("/repository/metadata/root.json").json() == {"signed": {}}


def test_a_pipe_in_the_repository_is_not_a_file(
    client: TestClient[Litestar], repository: Path
) -> None:
    os.mkfifo(repository / "targets" / "pipe")
    assert client.get("/repository/targets/pipe").status_code == 404
