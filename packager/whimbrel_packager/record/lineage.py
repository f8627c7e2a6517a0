"""Lineage: what a model comes from: code, data, runs, seeds, and the lock of its environment.

A recipe states some of it in its section ``[lineage]``; the rest is found where the tools of the
training left it (`whimbrel_packager.record.traces`). What is not known is not there. Nothing of the
machine goes in, no host, user or folder; and no credentials: what a bundle says, everybody reads.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from whimbrel_packager.record import checkout as checkouts

if TYPE_CHECKING:
    from collections.abc import Mapping

    Plain = str | int | float | bool | None

MODEL, CODE, LOCK = "model", "code", "lock"
REFERENCE, REFERENCE_FILE, LABELS = "reference", "reference file", "labels"
WEIGHTS = "weights: "  # and the name of a file beside the model
UNCOMMITTED = "uncommitted changes"  # an annotation of code
_USER = re.compile(r"(?<=://)[^/?#\s]*@")
_SECRET = re.compile(r"(?i)sig|token|secret|passw|credential|key")


class Origin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Data that the model comes from, beside the reference data.

    Args:
        name: for people and tools, e.g. ``raw flights``.
        uri: where it is, e.g. ``s3://lake/flights@v7`` or ``pachyderm:flights@<commit>``.
        sha256: hexadecimal digest, if it is known.
        md5: likewise.
    """

    name: str
    uri: str = ""
    sha256: str = ""
    md5: str = ""


class Stated(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a person states about where the model comes from; see the module for what is found.

    Args:
        find: whether to look for more than is stated here.
        code: folder of the training code; "": the recipe's, else the model's.
        commit: of the training code, where there is no checkout.
        repository: URL of the training code; "": the checkout's remote.
        lock: path of the lock or requirements file of the training.
        seeds: random seeds by name, beside those that the model itself holds.
        metrics: quality as the training measured it.
        runs: ids or URLs of runs by tool, e.g. ``mlflow``, ``wandb``, ``ci``.
        data: data that the model comes from, beside the reference data.
    """

    find: bool = True
    code: str = ""
    commit: str = ""
    repository: str = ""
    lock: str = ""
    seeds: dict[str, int] = {}
    metrics: dict[str, float] = {}
    runs: dict[str, str] = {}
    data: tuple[Origin, ...] = ()


class Dependency(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something that went in: a resource descriptor of in-toto."""

    name: str
    uri: str = ""
    digest: dict[str, str] = {}
    annotations: dict[str, str | int | bool] = {}


class Lineage(msgspec.Struct, frozen=True, omit_defaults=True):
    """All that is known of where a model comes from.

    Args:
        dependencies: what went in, with digests.
        runs: ids by tool.
        seeds: as stated.
        metrics: as the training measured them.
        parameters: of the pipeline's stage that made the model.
    """

    dependencies: tuple[Dependency, ...] = ()
    runs: dict[str, str] = {}
    seeds: dict[str, int] = {}
    metrics: dict[str, float] = {}
    parameters: dict[str, str | int | float | bool | None] = {}

    def dependency(self, name: str) -> Dependency | None:
        """Return what went in under a name."""
        return next((entry for entry in self.dependencies if entry.name == name), None)

    def digest(self, name: str) -> str:
        """Return the SHA-256 of what went in under a name, or ""."""
        found = self.dependency(name)
        return found.digest.get("sha256", "") if found else ""

    @property
    def commit(self) -> str:
        """Commit of the training code, or ""."""
        found = self.dependency(CODE)
        return found.digest.get("gitCommit", "") if found else ""


def public(stated: Stated) -> Stated:
    """Return what is stated without credentials: what a bundle says, everybody reads."""
    return msgspec.structs.replace(
        stated,
        repository=checkouts.public_url(stated.repository),
        runs={tool: _public_uri(run) for tool, run in stated.runs.items()},
        data=tuple(
            msgspec.structs.replace(origin, uri=_public_uri(origin.uri)) for origin in stated.data
        ),
    )


def with_source(lineage: Lineage, said: Mapping[str, str]) -> Lineage:
    """Return a lineage with what the model's own files say of it, e.g. ``mlflow.run``.

    A run that was stated or found elsewhere stays; the rest is noted beside the model's digest.
    """
    runs = {name.removesuffix(".run"): run for name, run in said.items() if name.endswith(".run")}
    notes: dict[str, str | int | bool] = {
        name: value for name, value in said.items() if not name.endswith(".run")
    }
    return msgspec.structs.replace(
        lineage,
        runs=dict(sorted({**runs, **lineage.runs}.items())),
        dependencies=tuple(
            msgspec.structs.replace(entry, annotations={**entry.annotations, **notes})
            if entry.name == MODEL
            else entry
            for entry in lineage.dependencies
        ),
    )


def seeds_in(parameters: Mapping[str, Plain]) -> dict[str, int]:
    """Return those parameters that seed a random generator.

    >>> seeds_in({"model__random_state": 7, "depth": 3, "bagging_seed": None})
    {'model__random_state': 7}
    """
    return {
        name: value
        for name, value in parameters.items()
        if isinstance(value, int) and not isinstance(value, bool)
        and name.endswith(("random_state", "seed"))
    }  # fmt: skip


def _public_uri(uri: str) -> str:
    """Return a URI without user, password, and what in its query signs or unlocks.

    >>> _public_uri("https://me:pw@h.example/x?versionId=3&X-Amz-Signature=abc")
    'https://h.example/x?versionId=3'
    """
    head, question, query = _USER.sub("", uri).partition("?")
    kept = [part for part in query.split("&") if not _SECRET.search(part.partition("=")[0])]
    return head + question + "&".join(kept) if any(kept) else head
