"""Rebuilding: a bundle is made again from the recipe inside it, and compared file by file.

Whoever has the model, the reference data and the recorded versions can so prove that a bundle is
what its provenance says, without trusting the machine that packed it. Taken from the record are
the recipe, the date, what the first machine measured, and where the model came from; all else is
made anew. Nothing is written.

What a bundle says gives no permission: that a pickle may be loaded, or which types a skops file may
hold, is said by the person who rebuilds.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from whimbrel_core import identity
from whimbrel_core.bundle import archive, signature
from whimbrel_core.bundle import bundle as bundles
from whimbrel_core.bundle import manifest as manifests
from whimbrel_core.errors import BundleError, InputError, UsageError
from whimbrel_packager import build
from whimbrel_packager import recipe as recipes
from whimbrel_packager.recipe import Recipe
from whimbrel_packager.record import lineage as lineages
from whimbrel_packager.record import provenance, traces
from whimbrel_packager.reference import Reference
from whimbrel_packager.sources import given

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from whimbrel_core.signing.keys import PublicKey, Signer
    from whimbrel_packager.record.lineage import Lineage
    from whimbrel_packager.record.provenance import Record

_SHOWN = 8  # differing keys of a JSON file
_JSON = (bundles.MANIFEST, bundles.SBOM, bundles.PROVENANCE)


class Permissions(msgspec.Struct, frozen=True):
    """What the person who rebuilds allows; see `whimbrel_packager.sources.Options`."""

    allow_pickle: bool = False
    trusted: tuple[str, ...] = ()


class Change(msgspec.Struct, frozen=True):
    """A version that is another one here than the recorded one; "" where there is none."""

    name: str
    recorded: str
    here: str


class Difference(msgspec.Struct, frozen=True):
    """A file that came out otherwise.

    Args:
        file: its name.
        recorded: SHA-256 in the bundle; "" when it is not there.
        here: SHA-256 as it was made here; "" when it was not made.
        what: in what it differs, for people.
    """

    file: str
    recorded: str
    here: str
    what: str


class Rebuilt(msgspec.Struct, frozen=True):
    """What came out.

    Args:
        name: of the bundle's manifest.
        version: likewise.
        digest: SHA-256 of the bundle.
        same: whether every file that was compared is byte for byte the same.
        files: number of files that are the same.
        differences: files that are not.
        versions: packages, and Python, that differ from the recorded ones.
        signature: ``same``, ``differs``, or ``not made`` without a key.
        verified_by: id of the trusted key that vouches for the bundle; "" when none was given.
        notes: what else a person should know.
    """

    name: str
    version: str
    digest: str
    same: bool
    files: int
    differences: tuple[Difference, ...]
    versions: tuple[Change, ...]
    signature: str
    verified_by: str
    notes: tuple[str, ...] = ()


class _Opened(NamedTuple):
    content: bytes
    files: dict[str, bytes]  # all but the signature
    signature: bytes
    verified_by: str

    @property
    def manifest(self) -> manifests.Manifest:
        return manifests.decode(self.files[bundles.MANIFEST])


def rebuild(
    bundle: Path,
    model: object,
    reference: object,
    y: object = None,
    *,
    key: Signer | None = None,
    trust: Sequence[PublicKey] = (),
    permissions: Permissions | None = None,
    files: Path | None = None,
    tell: Callable[[str], None] | None = None,
) -> Rebuilt:
    """Make a bundle again from its own record, and compare.

    Args:
        bundle: path of the bundle.
        model: as `whimbrel_packager.pack` was given it.
        reference: likewise.
        y: likewise, when labels were given apart from the data.
        key: the publisher's signing key, to make the signature again, too.
        trust: keys of which one has to vouch for the bundle before anything of it is followed.
        permissions: what may be loaded; None: no pickle, and no types beyond scikit-learn's.
        files: folder of other files that the recipe names; None: the bundle's.
        tell: called with the name of each stage that begins.

    Returns:
        What is the same and what is not, with the versions that differ.

    Raises:
        UsageError: something given cannot be, or the recipe needs a newer Whimbrel.
        InputError: the model or the data is not what was packed; the message names it.
        BundleError: the bundle is malformed, or holds no recipe.
        TrustError: no trusted key vouches for the bundle.
        ConversionError, ParityError, GateError: what once held does not hold here.
    """
    tell, allowed = tell or (lambda _stage: None), permissions or Permissions()
    opened = _open(bundle, trust)
    record = provenance.read(opened.files.get(bundles.PROVENANCE, b""), what=str(bundle))
    recipe = _recipe(record, bundle, files or bundle.parent)
    tell("checking what is given against the record")
    lineage = record.occasion.lineage
    notes = [
        *_check_model(lineage, recipe.title, model),
        *_check_data(lineage, recipe, reference, y),
    ]
    made = build.make(
        recipe, model, reference, y,
        tell=tell, key=next(
            (one for one in trust if one.id == opened.verified_by), key.public if key else None
        ),
        recorded=msgspec.structs.replace(record.occasion, gates=opened.manifest.gates),
        options=msgspec.structs.replace(
            recipe.source, allow_pickle=allowed.allow_pickle, trusted=allowed.trusted
        ),
    )  # fmt: skip
    tell("comparing")
    versions = tuple(_versions(record, provenance.read(made.files[bundles.PROVENANCE], what="")))
    differences = tuple(_differences(opened.files, made.files))
    if key is None:
        again = _archive({**made.files, signature.FILE: opened.signature})
        signed = "not made"
    else:
        again = bundles.build(made.files, key)
        same = archive.Archive(io.BytesIO(again)).read(signature.FILE) == opened.signature
        signed = "same" if same else "differs"
        if not same and not differences:
            notes.append(
                "all files are the same, the signature is not: another key, or one that signs "
                "with fresh randomness"
            )
    if not differences and signed != "differs" and again != opened.content:
        differences = (Difference("(the archive)", identity.sha256(opened.content),
                                  identity.sha256(again), "equal files, stored otherwise"),)  # fmt: skip
    if differences and not versions:
        notes.append(
            "all recorded versions are those of this machine: the processor, or a step that is not "
            "deterministic, makes the difference"
        )
    return Rebuilt(
        name=made.manifest.name,
        version=made.manifest.version,
        digest=identity.sha256(opened.content),
        same=not differences and signed != "differs",
        files=len(set(opened.files) | set(made.files)) - len(differences),
        differences=differences,
        versions=versions,
        signature=signed,
        verified_by=opened.verified_by,
        notes=tuple(notes),
    )


def _open(path: Path, trust: Sequence[PublicKey]) -> _Opened:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    by = ""
    if trust:
        by = bundles.open_bundle(io.BytesIO(content), trust, what=str(path)).key_id
    bundles.inspect(io.BytesIO(content), what=str(path))
    held = archive.Archive(io.BytesIO(content))
    files = {name: held.read(name) for name in held.names}
    if signature.FILE not in files:
        raise BundleError(f"{path}: has no {signature.FILE}", code="bundle.missing")
    signed = files.pop(signature.FILE)
    if bundles.PROVENANCE not in files:
        raise BundleError(
            f"{path}: has no {bundles.PROVENANCE}, so that nobody knows how it was made",
            hint="pack the model again",
            code="bundle.missing",
        )
    return _Opened(content, files, signed, by)


def _recipe(record: Record, bundle: Path, files: Path) -> Recipe:
    try:
        recipe = msgspec.convert(record.recipe, Recipe)
    except msgspec.ValidationError as error:
        raise UsageError(
            f"{bundle}: this Whimbrel does not know all of its recipe: {error}",
            hint=f"it was packed by whimbrel-packager {record.tool or 'of an unknown version'}",
            code="usage.version",
        ) from error
    return recipes.with_paths(
        recipe, lambda key, name: name if key in recipes.GIVEN else str(files / Path(name).name)
    )


def _check_model(lineage: Lineage, title: str, model: object) -> Iterator[str]:
    """Refuse a model that is not what was packed; yield what is worth a note."""
    path, recorded = given.file(model), lineage.digest(lineages.MODEL)
    if path is not None and not path.exists():
        raise UsageError(f"there is no model file {path}")
    if not recorded:
        yield "the model was packed from memory: no digest of it is recorded to compare with"
    elif path is None:
        yield "the model was given as an object, and could not be compared with the recorded file"
    else:
        if (here := given.digest(path)) != recorded:
            raise _other(f"the model {path}", title, recorded, here)
        for name, digest in traces.weights(path):
            stated = lineage.digest(f"{lineages.WEIGHTS}{name}")
            if stated and digest != stated:
                raise _other(f"the model's file of weights {name}", title, stated, digest)


def _check_data(lineage: Lineage, recipe: Recipe, reference: object, y: object) -> Iterator[str]:
    """Refuse data and other files that are not what was packed; yield what is worth a note."""
    title = recipe.title
    for key, other in recipes.other_files(recipe).items():
        recorded = lineage.digest(key)
        if recorded and (here := given.digest(other)) != recorded:
            raise _other(f"{key}, {other},", title, recorded, here)
    data = Reference.read(reference, y, recipe.data.label, recipe.data.held_out, recipe.data.aside)
    recorded = lineage.digest(lineages.REFERENCE)
    if data.digest != recorded:
        shown = given.file(reference) or "that was given"
        raise _other(f"the reference data {shown}", title, recorded, data.digest)
    if data.labels_digest != lineage.digest(lineages.LABELS):
        raise _other("y, the labels apart from the data,", title,
                     lineage.digest(lineages.LABELS), data.labels_digest)  # fmt: skip
    file, recorded = given.file(reference), lineage.digest(lineages.REFERENCE_FILE)
    if file is not None and recorded and traces.data_digest(file) != recorded:
        yield f"{file} is another file than the recorded one, with the same columns and values"


def _other(what: str, title: str, recorded: str, here: str) -> InputError:
    short = [digest[:16] + "…" if digest else "none" for digest in (recorded, here)]
    return InputError(
        f"{what} is not what {title} was packed from: sha256 {short[1]}, recorded is {short[0]}",
        hint="'whimbrel inspect' shows what went in, with its commit, run and data versions",
        code="input.rebuild",
    )


def _versions(record: Record, here: Record) -> Iterator[Change]:
    recorded = {"python": record.environment.python, **record.environment.packages}
    present = {"python": here.environment.python, **here.environment.packages}
    for name in sorted(recorded.keys() | present.keys()):
        if recorded.get(name, "") != present.get(name, ""):
            yield Change(name, recorded.get(name, ""), present.get(name, ""))


def _differences(recorded: dict[str, bytes], here: dict[str, bytes]) -> Iterator[Difference]:
    for name in sorted(recorded.keys() | here.keys()):
        one, two = recorded.get(name), here.get(name)
        if one == two:
            continue
        if one is None or two is None:
            what = "was not in the bundle" if one is None else "was not made here"
        elif name in _JSON:
            what = _keys(one, two)
        else:
            what = f"{len(one)} bytes recorded, {len(two)} here"
        digests = [identity.sha256(data) if data is not None else "" for data in (one, two)]
        yield Difference(name, digests[0], digests[1], what)


def _keys(one: bytes, two: bytes) -> str:
    """Return which keys of two JSON documents differ."""
    try:
        found = list(_paths(msgspec.json.decode(one), msgspec.json.decode(two), ""))
    except (msgspec.DecodeError, RecursionError):
        return "is no JSON"
    # Digests of the other files follow from what is listed for those.
    own = [path for path in found if not path.startswith(("subject[", "metadata.component.comp"))]
    if not own:
        return "the digests of the files above" if found else "white space or order alone"
    more = len(own) - _SHOWN
    return ", ".join(own[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _paths(one: Any, two: Any, at: str) -> Iterator[str]:  # noqa: ANN401 - any JSON
    if isinstance(one, dict) and isinstance(two, dict):
        for key in sorted(one.keys() | two.keys()):
            inner = f"{at}.{key}" if at else key
            if key not in one or key not in two:
                yield inner
            else:
                yield from _paths(one[key], two[key], inner)
    elif isinstance(one, list) and isinstance(two, list) and len(one) == len(two):
        for i, (left, right) in enumerate(zip(one, two, strict=True)):
            yield from _paths(left, right, f"{at}[{i}]")
    elif one != two or type(one) is not type(two):
        yield at


def _archive(files: dict[str, bytes]) -> bytes:
    target = io.BytesIO()
    archive.write(target, files)
    return target.getvalue()
