"""A repository in S3, kept apart from other publishers by conditional writes."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("boto3")
pytest.importorskip("moto.server")

from botocore.exceptions import ClientError, EndpointConnectionError

from tests.packager.command import whimbrel
from tests.packager.destinations.conftest import Publisher, seen
from tests.support.bucket import BUCKET, S3Server
from tests.support.founded import founded
from tests.support.ports import free_port
from whimbrel_core.errors import (
    StorageError,
    TrustError,
    UnavailableError,
    UsageError,
    WhimbrelError,
)
from whimbrel_packager.destinations import ConflictError, destination
from whimbrel_packager.destinations.s3 import PROBE, Bucket
from whimbrel_packager.repository import publishing
from whimbrel_packager.repository.repository import Repository

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    server = S3Server().start()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def environment(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def place() -> str:
    return f"s3://{BUCKET}/test-{next(_NUMBERS)}"


def bucket(place: str) -> Bucket:
    made = destination(place)
    assert isinstance(made, Bucket)
    return made


@pytest.fixture
def repository(publisher: Publisher, place: str) -> Repository:
    return founded(place, publisher.keys, publisher.online, now=datetime.now(UTC))


def publish(publisher: Publisher, place: str, version: str) -> Any:  # noqa: ANN401
    return publishing.publish(
        Repository(place),
        publisher.path(version),
        publisher.keys,
        online=publisher.online,
        now=datetime.now(UTC),
    )


def test_a_repository_in_a_bucket_is_what_one_in_a_directory_is(
    repository: Repository, publisher: Publisher, place: str, tmp_path: Path, s3: S3Server
) -> None:
    done = publish(publisher, place, "1.0.0")
    assert done.signed == ("2.targets.json", "2.snapshot.json", "timestamp.json")
    assert not done.waiting
    second = publish(publisher, place, "1.1.0")
    assert set(second.delta_bytes) <= {"1.0.0"}
    assert seen(bucket(place), tmp_path / "device") == {"1.0.0", "1.1.0"}
    assert publish(publisher, place, "1.1.0").fresh is False
    assert repository.status().versions["targets"] == 3
    key = place.removeprefix(f"s3://{BUCKET}/") + "/metadata/3.targets.json"
    kept = s3.client.head_object(Bucket=BUCKET, Key=key)
    assert kept["ContentType"] == "application/json"
    assert "immutable" in kept["CacheControl"]


def test_conditional_writes_are_what_the_server_keeps(place: str) -> None:
    one, other = bucket(place), bucket(place)
    one.create("metadata/1.targets.json", b"one")
    one.create("metadata/1.targets.json", b"one")  # an answer was lost, and it is tried again
    with pytest.raises(ConflictError, match=r"1\.targets\.json is theirs"):
        other.create("metadata/1.targets.json", b"other")
    one.replace("metadata/timestamp.json", b"first", seen=None)
    assert other.read("metadata/timestamp.json") == b"first"
    assert one.read("metadata/timestamp.json") == b"first"
    other.replace("metadata/timestamp.json", b"second", seen=b"first")
    with pytest.raises(ConflictError):
        one.replace("metadata/timestamp.json", b"third", seen=b"first")
    assert one.read("metadata/timestamp.json") == b"second"
    assert sorted(one.names("metadata")) == [
        ".conditional-writes", "1.targets.json", "timestamp.json",
    ]  # fmt: skip
    assert one.names("nothing") == []
    assert one.read("nothing") is None


def test_a_server_that_ignores_conditions_is_refused(
    repository: Repository, publisher: Publisher, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from botocore.client import BaseClient

    real = BaseClient._make_api_call

    def call(self: Any, operation: str, values: dict[str, Any]) -> Any:  # noqa: ANN401
        kept = {k: v for k, v in values.items() if k not in {"IfNoneMatch", "IfMatch"}}
        return real(self, operation, kept)

    monkeypatch.setattr(BaseClient, "_make_api_call", call)
    with pytest.raises(UsageError, match="ignores conditional writes") as caught:
        publish(publisher, place, "1.0.0")
    assert "copy that there" in str(caught.value.hint)
    assert repository.newest("targets") == 1


def test_of_two_publishers_at_once_the_second_goes_on_from_the_first(
    repository: Repository,
    publisher: Publisher,
    place: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = Bucket._conditional
    busy: list[str] = []

    def conditional(self: Bucket, path: str, data: bytes, **condition: str) -> None:
        # Right before each of our conditional writes, somebody else is quicker.
        if path.endswith(("2.targets.json", "3.snapshot.json")) and not busy:
            busy.append(path)
            publish(publisher, place, "1.0.0")
        real(self, path, data, **condition)

    monkeypatch.setattr(Bucket, "_conditional", conditional)
    done = publish(publisher, place, "1.1.0")
    assert (done.fresh, done.targets_version, done.waiting) == (True, 3, False)
    assert busy == ["metadata/2.targets.json"]
    assert seen(bucket(place), tmp_path / "device") == {"1.0.0", "1.1.0"}


@pytest.mark.parametrize("last", ["snapshot.json", "timestamp.json"])
def test_whoever_signs_last_names_the_newest_targets(
    repository: Repository,
    publisher: Publisher,
    place: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    last: str,
) -> None:
    real = Bucket._conditional
    busy: list[str] = []

    def conditional(self: Bucket, path: str, data: bytes, **condition: str) -> None:
        if path.endswith(last) and not busy:
            busy.append(path)
            publish(publisher, place, "1.1.0")  # all of it, before our snapshot or timestamp
        real(self, path, data, **condition)

    monkeypatch.setattr(Bucket, "_conditional", conditional)
    publish(publisher, place, "1.0.0")
    assert busy
    assert not repository.status().waiting
    assert seen(bucket(place), tmp_path / "device") == {"1.0.0", "1.1.0"}


@pytest.mark.parametrize("failing", range(4))
def test_whoever_is_cut_off_leaves_the_old_state_and_publishes_again(
    repository: Repository,
    publisher: Publisher,
    place: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    failing: int,
) -> None:
    real = Bucket._put
    written: list[str] = []

    def put(self: Bucket, path: str, data: bytes, **condition: str) -> None:
        if len(written) == failing:  # the bundle, targets, snapshot, timestamp
            raise UnavailableError("the connection was cut")
        real(self, path, data, **condition)
        if path != PROBE:
            written.append(path)

    with monkeypatch.context() as patched:
        patched.setattr(Bucket, "_put", put)
        with pytest.raises(UnavailableError):
            publish(publisher, place, "1.0.0")
    assert seen(bucket(place), tmp_path / "between") == set()
    publish(publisher, place, "1.0.0")
    assert seen(bucket(place), tmp_path / "after") == {"1.0.0"}


def _error(code: str, status: int) -> ClientError:
    response: Any = {
        "Error": {"Code": code, "Message": "it says why"},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return ClientError(response, "PutObject")


@pytest.mark.parametrize(
    ("raised", "kind", "says"),
    [
        (_error("AccessDenied", 403), TrustError, "did not let us write"),
        (_error("QuotaExceeded", 403), StorageError, "devices see what they saw before"),
        (_error("NotImplemented", 501), UsageError, "it says why"),
        (_error("SlowDown", 503), UnavailableError, "SlowDown"),
        (EndpointConnectionError(endpoint_url="http://x"), UnavailableError, "does not answer"),
    ],
    ids=lambda value: getattr(value, "__name__", None) or str(value)[-20:],
)
def test_what_s3_says_is_told_as_what_it_means(
    place: str,
    monkeypatch: pytest.MonkeyPatch,
    raised: Exception,
    kind: type[WhimbrelError],
    says: str,
) -> None:
    made = bucket(place)
    made.create("metadata/1.root.json", b"x")

    def put(**_: object) -> None:
        raise raised

    monkeypatch.setattr(made._client, "put_object", put)
    with pytest.raises(kind, match=says) as caught:
        made.create("metadata/1.targets.json", b"x")
    assert caught.value.hint


def _away(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    return f"s3://{BUCKET}/x"


def _nobody(monkeypatch: pytest.MonkeyPatch) -> str:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    return f"s3://{BUCKET}/x"


@pytest.mark.parametrize(
    ("prepare", "kind", "says"),
    [
        (lambda _: "s3://no-such-bucket/x", UsageError, "there is no bucket 'no-such-bucket'"),
        (lambda _: "s3:///x", UsageError, "names no bucket"),
        (lambda _: f"s3://{BUCKET}/empty", UsageError, "is no repository"),
        (lambda _: "gs://bucket/x", UsageError, "no place for a repository"),
        (_nobody, TrustError, "credentials"),
        (_away, UnavailableError, "does not answer"),
    ],
    ids=["bucket", "no bucket", "empty", "scheme", "nobody", "away"],
)
def test_a_place_that_is_none_is_named(
    monkeypatch: pytest.MonkeyPatch,
    prepare: Callable[[pytest.MonkeyPatch], str],
    kind: type[WhimbrelError],
    says: str,
) -> None:
    with pytest.raises(kind, match=says) as caught:
        Repository(prepare(monkeypatch)).root()
    assert caught.value.hint


def test_the_commands_make_fill_and_show_a_bucket(publisher: Publisher, place: str) -> None:
    keys = ("--keys", publisher.keys, "--online-keys", publisher.online)
    made = whimbrel("repo", "init", "--dir", place, *keys)
    assert made.code == 0, made.err
    assert f"{place}/metadata/1.root.json" in made.out
    done = whimbrel("publish", publisher.path("1.0.0"), "--to", place, *keys)
    assert done.code == 0, done.err
    assert "published: churn 1.0.0, release 1" in done.out
    shown = whimbrel("repo", "show", "--dir", place)
    assert "churn 1.0.0  release 1" in shown.out
