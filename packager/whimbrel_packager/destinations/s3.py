"""S3, and whatever speaks its protocol: conditional writes instead of a lock.

``If-None-Match: *`` lets one of two publishers write ``N.targets.json``, and ``If-Match`` one of
them the timestamp; the other is told, and goes on from there. Credentials, region and endpoint come
from where the AWS tools look: environment, profile, instance (``AWS_PROFILE``,
``AWS_ENDPOINT_URL_S3``, …).
"""

from __future__ import annotations

import contextlib
import hashlib
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from whimbrel_core.errors import StorageError, TrustError, UnavailableError, UsageError
from whimbrel_packager.destinations.port import ConflictError

if TYPE_CHECKING:
    from whimbrel_core.errors import WhimbrelError

PROBE = "metadata/.conditional-writes"
_MISSING = frozenset({"404", "NoSuchKey", "NotFound"})
_TAKEN = frozenset({"412", "PreconditionFailed", "409", "ConditionalRequestConflict"})
_DENIED = frozenset(
    {"403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"}
)
_FULL = frozenset({"QuotaExceeded", "EntityTooLarge", "InsufficientStorage", "XMinioStorageFull"})
_UNSUPPORTED = frozenset({"501", "NotImplemented"})


class Bucket:
    """A repository below a prefix of a bucket.

    Args:
        client: of boto3.
        bucket: its name.
        prefix: of every key, without ``/`` at the ends.
    """

    def __init__(self, client: Any, bucket: str, prefix: str) -> None:  # noqa: ANN401 - boto3 has no types
        self._client, self._bucket = client, bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._etags: dict[str, str] = {}
        self._keeps_conditions = False
        self.where = f"s3://{bucket}/{prefix}".rstrip("/")

    @classmethod
    def open(cls, url: str) -> Bucket:
        """Return the place that ``s3://bucket/prefix`` names.

        Raises:
            UsageError: it names none, or boto3 is not installed.
        """
        parts = urlsplit(url)
        if not parts.netloc:
            raise UsageError(f"{url} names no bucket", hint="give s3://BUCKET/PREFIX")
        try:
            import boto3
            from botocore.config import Config
            from botocore.exceptions import BotoCoreError
        except ImportError as error:
            raise UsageError(
                "publishing to S3 needs boto3, which is not installed",
                hint="pip install 'whimbrel-packager[s3]'",
                code="usage.extra",
            ) from error
        config = Config(
            retries={"mode": "standard", "max_attempts": 4},
            connect_timeout=10,
            read_timeout=120,
            # Other servers than Amazon's do not all know the newer checksum trailers.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        try:
            client = boto3.session.Session().client("s3", config=config)
        except (BotoCoreError, ValueError) as error:
            raise UsageError(
                f"S3 cannot be asked: {error}",
                hint="set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and "
                "AWS_REGION; AWS_ENDPOINT_URL_S3 for another server than Amazon's",
            ) from error
        return cls(client, parts.netloc, parts.path.strip("/"))

    def read(self, path: str) -> bytes | None:
        """Return a file's bytes, None when it is not there."""
        try:
            answer = self._client.get_object(Bucket=self._bucket, Key=self._prefix + path)
            data: bytes = answer["Body"].read()
        except Exception as error:
            if _code(error) in _MISSING:
                return None
            raise self._failed("read", path, error) from error
        self._etags[path] = answer["ETag"]
        return data

    def names(self, folder: str) -> list[str]:
        """Return the names of the files in a folder."""
        base = f"{self._prefix}{folder}/"
        try:
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=base, Delimiter="/"
            )
            return [
                item["Key"].removeprefix(base)
                for page in pages
                for item in page.get("Contents", ())
            ]
        except Exception as error:
            raise self._failed("list", folder, error) from error

    def store(self, path: str, data: bytes) -> None:
        """Keep a file whose name holds its digest."""
        key = self._prefix + path
        try:
            there = self._client.head_object(Bucket=self._bucket, Key=key)
            # Of a part upload or an encrypted object, the ETag is no MD5; then it is sent again.
            if there["ETag"].strip('"') == hashlib.md5(data, usedforsecurity=False).hexdigest():
                return
        except Exception as error:
            if _code(error) not in _MISSING:
                raise self._failed("read", path, error) from error
        self._put(path, data)

    def create(self, path: str, data: bytes) -> None:
        """Write a file that must not be there. Raises `ConflictError`."""
        self._conditional(path, data, IfNoneMatch="*")

    def replace(self, path: str, data: bytes, *, seen: bytes | None) -> None:
        """Write over what was read last. Raises `ConflictError`."""
        if seen is None:
            self.create(path, data)
            return
        etag = self._etags.get(path)
        if etag is None:
            raise UsageError(f"{path} of {self.where} was not read before it is replaced")
        self._conditional(path, data, IfMatch=etag)

    def exclusive(self) -> contextlib.AbstractContextManager[None]:
        """Hold nothing: S3 has no lock, and needs none here."""
        return contextlib.nullcontext()

    def _conditional(self, path: str, data: bytes, **condition: str) -> None:
        self._require_conditions()
        try:
            self._put(path, data, **condition)
        except ConflictError:
            # An answer that was lost makes a client try again, and find its own work.
            if self.read(path) != data:
                raise

    def _require_conditions(self) -> None:
        """Refuse a server that takes conditional writes and does not look at the condition.

        Some do (rclone's, for one): of two publishers at once one would be lost, unseen.
        """
        if self._keeps_conditions:
            return
        for _ in range(2):  # the first makes the file, the second has to be refused
            try:
                self._put(PROBE, b"", IfNoneMatch="*")
            except ConflictError:
                self._keeps_conditions = True
                return
        raise UsageError(
            f"{self.where} is kept by a server that ignores conditional writes (If-None-Match), "
            "so two publishers would overwrite each other; nothing was published",
            hint="publish to a directory, and copy that there: files below targets first, "
            "metadata/timestamp.json last",
            code="usage.conditions",
        )

    def _put(self, path: str, data: bytes, **condition: str) -> None:
        kind = "application/json" if path.endswith(".json") else "application/octet-stream"
        # A name with a digest or a number never gets other content.
        caching = "no-cache" if path.endswith("timestamp.json") else "max-age=31536000, immutable"
        try:
            answer = self._client.put_object(
                Bucket=self._bucket,
                Key=self._prefix + path,
                Body=data,
                ContentType=kind,
                CacheControl=caching,
                **condition,
            )
        except Exception as error:
            if condition and _code(error) in _TAKEN:
                raise ConflictError.over(path, self.where) from error
            raise self._failed("write", path, error) from error
        self._etags[path] = answer["ETag"]

    def _failed(self, verb: str, path: str, error: Exception) -> WhimbrelError | Exception:
        """Return boto3's exception as one of ours; what is a fault of ours as it is."""
        from botocore.exceptions import BotoCoreError, ClientError

        if not isinstance(error, (BotoCoreError, ClientError)):
            return error
        code, what = _code(error), f"{self.where} did not let us {verb} {path}"
        if isinstance(error, ClientError):
            said = error.response.get("Error", {}).get("Message") or code
            if code == "NoSuchBucket":
                return UsageError(
                    f"there is no bucket {self._bucket!r} at this server: {said}",
                    hint="make it first; AWS_ENDPOINT_URL_S3 says where to look",
                )
            if code in _DENIED:
                return TrustError(
                    f"{what}: {said}; devices see what they saw before",
                    hint="the credentials need s3:GetObject, s3:PutObject and s3:ListBucket; "
                    "see 'aws sts get-caller-identity'",
                    code="access.s3",
                )
            if code in _FULL:
                return StorageError(
                    f"{what}: {said}; devices see what they saw before",
                    hint="make room or raise the quota, then publish again",
                    code="storage.full",
                )
            if code in _UNSUPPORTED:
                return UsageError(
                    f"{what}: {said}",
                    hint="publish to a directory, and copy that there: files below targets first, "
                    "metadata/timestamp.json last",
                )
            return UnavailableError(
                f"{what}: {said} [{code}]; devices see what they saw before",
                hint="publish again: what is there already is used",
            )
        if "credentials" in type(error).__name__.lower():
            return TrustError(
                f"{what}: {error}",
                hint="set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
                code="access.s3",
            )
        return UnavailableError(
            f"{self.where} does not answer: {error}; devices see what they saw before",
            hint="is AWS_ENDPOINT_URL_S3 right? publish again: what is there already is used",
        )


def _code(error: Exception) -> str:
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""
