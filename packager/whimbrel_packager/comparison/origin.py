"""Changes of identity and lineage: who signed what, made from what."""

from __future__ import annotations

from typing import TYPE_CHECKING

from whimbrel_core import identity
from whimbrel_packager.comparison.change import Change, named
from whimbrel_packager.record import lineage as lineages

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from whimbrel_core.bundle.manifest import Manifest
    from whimbrel_packager.contents import Contents

_SHORT = 12  # digits of a digest that tell two apart


def changes(old: Contents, new: Contents) -> Iterator[Change]:
    """Yield what differs."""
    a, b = old.manifest, new.manifest
    yield from _identity(a, b)
    yield from _signature(old, new)
    yield from _source(a, b)
    yield from _lineage(old, new)


def _identity(a: Manifest, b: Manifest) -> Iterator[Change]:
    if a.name != b.name:
        yield Change("breaking", "identity", "name", f"is another model: {b.name}, was {a.name}",
                     a.name, b.name)  # fmt: skip
        return
    if b.release <= a.release:
        yield Change(
            "severe", "identity", "release",
            f"release {b.release} is not above {a.release}: no device that has the old one takes it",
            str(a.release), str(b.release),
        )  # fmt: skip
    first, second = (identity.version_key(identity.version(m.version)) for m in (a, b))
    if second < first and b.release > a.release:
        yield Change("notice", "identity", "version",
                     f"version {b.version} is below {a.version}", a.version, b.version)  # fmt: skip


def _signature(old: Contents, new: Contents) -> Iterator[Change]:
    was, now = old.signature, new.signature
    if now.state == "none" and was.state != "none":
        yield Change("severe", "identity", "signature", "the new one is not signed")
    elif was.key_id and now.key_id and was.key_id != now.key_id:
        keys = [f"{one.key_id[:_SHORT]}…" for one in (was, now)]
        said = "" if now.state == was.state == "verified" else ", by what the files say"
        yield Change("notice", "identity", "key", f"signed by key {keys[1]}, was {keys[0]}{said}",
                     was.key_id, now.key_id)  # fmt: skip


def _source(a: Manifest, b: Manifest) -> Iterator[Change]:
    for what, was, now, level in (
        ("model", a.source.estimator, b.source.estimator, "notice"),
        ("framework", f"{a.source.framework} {a.source.framework_version}",
         f"{b.source.framework} {b.source.framework_version}", "info"),
        ("converter", f"{a.source.converter} {a.source.converter_version}",
         f"{b.source.converter} {b.source.converter_version}", "info"),
        ("licence", a.licence, b.licence, "notice"),
        ("description", a.description, b.description, "info"),
    ):  # fmt: skip
        if was != now:
            text = f"{what} is {now.strip() or 'not stated'}, was {was.strip() or 'not stated'}"
            yield Change("notice" if level == "notice" else "info", "lineage", what, text, was, now)


def _lineage(old: Contents, new: Contents) -> Iterator[Change]:
    a, b = old.manifest.lineage, new.manifest.lineage
    if a.commit != b.commit:
        shown = [one.commit[:_SHORT] or "unknown" for one in (a, b)]
        yield Change("info", "lineage", "commit", f"code is of commit {shown[1]}, was {shown[0]}",
                     a.commit, b.commit)  # fmt: skip
    if b.dirty:
        yield Change("notice", "lineage", "commit", "code had uncommitted changes")
    before, after = _digests(old), _digests(new)
    differing = [
        name
        for name in dict.fromkeys((*before, *after))
        if before.get(name) != after.get(name) and name != lineages.CODE
    ]
    if differing:
        yield Change("info", "lineage", "inputs", f"other inputs: {named(differing)}")
    yield from _values("seed", a.seeds, b.seeds)
    yield from _values("training", old.manifest.training, new.manifest.training)
    if old.record and new.record:
        yield from _values("parameter", old.record.parameters, new.record.parameters)
        packages = [one.record.environment.packages for one in (old, new) if one.record]
        told = [
            f"{name} {packages[0][name]} → {version}"
            for name, version in packages[1].items()
            if packages[0].get(name, version) != version
        ]
        if told:
            yield Change("info", "lineage", "packages", f"other versions: {named(told)}")


def _digests(contents: Contents) -> dict[str, Mapping[str, str]]:
    if contents.record is None:
        return {lineages.MODEL: {"sha256": contents.manifest.source.digest}}
    return {one.name: one.digest for one in contents.record.occasion.lineage.dependencies}


def _values(what: str, old: Mapping[str, object], new: Mapping[str, object]) -> Iterator[Change]:
    told = []
    for name in sorted({*old, *new}):
        was, now = old.get(name), new.get(name)
        if was != now:
            told.append(
                f"{name} {'none' if was is None else was} → {'none' if now is None else now}"
            )
    if told:
        plural = what if what == "training" else f"{what}s"
        yield Change("info", "lineage", plural, f"{plural}: {named(told)}")
