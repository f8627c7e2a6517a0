"""A bundle as commands are given it: a file, or NAME@VERSION of a repository.

A release is verified as a device verifies it: root, targets, the bundle's digest in them, and its
signature by a publisher whom the repository trusts with this model. With a repository, a file has
to be signed by such a publisher, too.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

import click

from whimbrel_packager.commands.place import opened, place

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from whimbrel_core.signing.keys import PublicKey
    from whimbrel_packager.contents import Contents
    from whimbrel_packager.repository.repository import Repository

repo_option: Callable[[Callable[..., object]], Callable[..., object]] = click.option(
    "--repo",
    type=place,
    metavar="PLACE",
    help="Repository that releases are named from, as NAME@VERSION: a directory, s3://BUCKET/PREFIX, "
    "or the fleet server's address. Its publishers are trusted, each for its models.",
)


class Named(NamedTuple):
    """A bundle that was read.

    Attributes:
        contents: all of it but the model.
        content: its bytes.
        file: where it lies; None for a release.
    """

    contents: Contents
    content: bytes
    file: Path | None


def bundles(
    names: Sequence[str], trust: Sequence[str], repo: Path | str | None
) -> tuple[Named, ...]:
    """Return the bundles that were named.

    Args:
        names: files, or releases of ``repo``.
        trust: public keys that are trusted beside the repository's publishers.
        repo: a place; None: there are files alone.

    Raises:
        UsageError: there is no such file, release or repository.
        TrustError: nobody who is trusted vouches for one of them.
        BundleError, ProfileError: as `whimbrel_packager.contents.read`.
    """
    from whimbrel_packager.signing import signers

    keys = [signers.public(where) for where in trust]
    repository = None
    if repo is not None:
        from whimbrel_packager.repository.repository import Repository

        repository = Repository(opened(repo))
    return tuple(_named(name, keys, repository) for name in names)


def _named(name: str, keys: Sequence[PublicKey], repository: Repository | None) -> Named:
    from whimbrel_core.errors import UsageError

    path = Path(name)
    if "@" not in name or path.exists():
        return _file(path, keys, repository)
    if repository is None:
        raise UsageError(
            f"there is no file {name}",
            hint=f"a release is named with its repository: {name} --repo PLACE",
        )
    return _release(name, keys, repository)


def _file(path: Path, keys: Sequence[PublicKey], repository: Repository | None) -> Named:
    from whimbrel_core.bundle import bundle as archives
    from whimbrel_packager.commands.inspect import opened as opened_file

    with opened_file(path) as file:
        content = file.read()
    stream = io.BytesIO(content)
    trusted = list(keys)
    if repository is not None:
        # Which publishers may sign it hangs on what it says it is; their signature confirms it.
        manifest, _ = archives.inspect(stream, what=str(path))
        trusted = _trusted(repository, manifest.name, keys)
    return Named(_contents(stream, str(path), trusted), content, path)


def _release(name: str, keys: Sequence[PublicKey], repository: Repository) -> Named:
    from whimbrel_core import identity
    from whimbrel_core.errors import TrustError, UsageError

    model, _, version = name.partition("@")
    identity.model_name(model)
    identity.version(version)
    targets = repository.targets()
    released = repository.released(targets)
    mine = [one for one in released if one.name == model]
    found = next((one for one in mine if one.version == version), None)
    if found is None:
        there = ", ".join(one.version for one in mine[-10:])
        models = ", ".join(sorted({one.name for one in released})[:10])
        raise UsageError(
            f"{repository.where} has no release {version} of {model}",
            hint=f"it has {there}" if mine else f"its models are {models or 'none yet'}",
        )
    content = repository.read(found.path, targets)
    trusted = _trusted(repository, model, keys)
    contents = _contents(io.BytesIO(content), name, trusted)
    stated = contents.manifest
    if (stated.name, stated.version, stated.release) != (model, version, found.release):
        raise TrustError(
            f"{name} in {repository.where} holds {stated.title}, release {stated.release}",
            hint="ask its publisher; devices refuse it too",
        )
    return Named(contents, content, None)


def _trusted(repository: Repository, model: str, keys: Sequence[PublicKey]) -> list[PublicKey]:
    from whimbrel_core.errors import TrustError
    from whimbrel_packager.repository import trusted

    publishers = trusted.publishers(repository, model)
    found = {**{key.id: key for key in keys}, **{i: one.public for i, one in publishers.items()}}
    if not found:
        raise TrustError(
            f"{repository.where} trusts nobody with {model}",
            hint="see 'whimbrel repo add-key bundle --model'",
            code="trust.scope",
        )
    return list(found.values())


def _contents(file: IO[bytes], what: str, keys: Sequence[PublicKey]) -> Contents:
    from whimbrel_packager import contents

    return contents.read(file, what=what, keys=keys)
