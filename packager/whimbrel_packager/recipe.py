"""The recipe: all that a packing is told, as one value.

`whimbrel.toml` beside the training code is a recipe written down; flags of ``whimbrel pack`` and
keywords of `whimbrel_packager.pack` change single keys of it. The recipe that was used goes into
the bundle's provenance, so that ``whimbrel rebuild`` can follow it again. Keys and passwords are
no part of it: they belong to the person who signs.
"""

from __future__ import annotations

import difflib
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import msgspec

from whimbrel_core import config, identity
from whimbrel_core.bundle.manifest import DriftPolicy
from whimbrel_core.canonical import canonical_json
from whimbrel_core.errors import UsageError
from whimbrel_core.profile.privacy.noise import MIN_EPSILON
from whimbrel_core.profile.privacy.words import MAX_DEVICES
from whimbrel_packager.conversion.child import Limits
from whimbrel_packager.descriptors import Describe
from whimbrel_packager.gates.declared import Gates
from whimbrel_packager.record.card import Card
from whimbrel_packager.record.lineage import Stated, public
from whimbrel_packager.segments import Segment
from whimbrel_packager.smaller.optimise import Optimise
from whimbrel_packager.sources import Options

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

FILE = "whimbrel.toml"
SERVING = "gates.skew.serving"
# Keys that are paths: in a file from its own folder, in a bundle the last part alone.
PATHS = (
    "model", "data.reference", "lineage.code", "lineage.lock", "gates.incumbent.bundle",
    "gates.incumbent.key", "gates.incumbent.repository", "gates.skew.definitions",
    SERVING, "optimise.predecessor",
)  # fmt: skip
# Of these, what is given apart or is known by something else than a digest.
GIVEN = ("model", "data.reference", "lineage.code", "lineage.lock")
PREFIX = "WHIMBREL_PACK"


class Data(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The reference data, and what its columns mean.

    Args:
        reference: path of the data, from the recipe's folder (.npz, .csv or .parquet, or a folder of
            .csv or .parquet files that are one table).
        label: column with the true label or value; "" when there is none.
        held_out: column that is true for the rows that the model was not trained on; "" for none.
        positive: name of the positive class of a two-class model; "" when neither is.
        units: physical units by column.
        aside: columns that are no inputs of the model, but that gates look at: times, groups,
            segments.
    """

    reference: str = ""
    label: str = ""
    held_out: str = ""
    positive: str = ""
    units: dict[str, str] = {}
    aside: tuple[str, ...] = ()


class Tolerances(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How far a converted model may be off: ``atol + rtol·|expected|``.

    Args:
        rtol: relative tolerance.
        atol: absolute tolerance; None: 1e-5, times the output's spread for a regression.
    """

    rtol: float = 1e-4
    atol: float | None = None


class Profile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How inputs and outputs are profiled.

    Args:
        describe: those that are no columns of numbers; what is obvious need not be said.
        slices: segments of the rows that are counted apart as well.
        columns: names or patterns (``temp_*``) of the columns that are profiled; empty: all, where
            they are no more than a profile holds.
    """

    describe: tuple[Describe, ...] = ()
    slices: tuple[Segment, ...] = ()
    columns: tuple[str, ...] = ()


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is packed, under which name, from which files, and what has to hold.

    Args:
        name: of the model; stays for ever.
        version: SemVer of this bundle.
        release: counter of releases of the model; devices never go back below one.
        model: path of the model's file, from the recipe's folder.
        description: a sentence for people.
        licence: of the model.
        device_classes: kinds of device it is meant for; empty: any.
        source: about reading the model.
        data: the reference data.
        parity: tolerances of the proof.
        limits: time and memory of the conversion.
        drift: how windows of the model are made and judged.
        profile: what is counted in them.
        training: what to record about the training, by name.
        lineage: where the model comes from.
        card: what only a person can say of it.
        gates: what has to hold before it is signed.
        optimise: how to make a network smaller after it is proven.
    """

    name: str = ""
    version: str = ""
    release: int = 1
    model: str = ""
    description: str = ""
    licence: str = ""
    device_classes: tuple[str, ...] = ()
    source: Options = Options()
    data: Data = Data()
    parity: Tolerances = Tolerances()
    limits: Limits = Limits()
    drift: DriftPolicy = DriftPolicy()
    profile: Profile = Profile()
    training: dict[str, str] = {}
    lineage: Stated = Stated()
    card: Card = Card()
    gates: Gates = Gates()
    optimise: Optimise = Optimise()

    @property
    def title(self) -> str:
        """``name-version``, for messages and file names."""
        return f"{self.name}-{self.version}"

    def check(self) -> None:
        """Refuse a recipe without a proper identity.

        Raises:
            UsageError: the name, the version or the release counter is missing or malformed.
        """
        for what, value in (("name", self.name), ("version", self.version)):
            if not value:
                raise UsageError(
                    f"the recipe has no {what}",
                    hint=f'give --{what}, or write {what} = "…" into {FILE}',
                )
        identity.model_name(self.name)
        identity.version(self.version)
        if self.release < 1:
            raise UsageError(f"release counter is {self.release}, it starts at 1")
        epsilon = self.drift.noise_epsilon
        if epsilon and not MIN_EPSILON <= epsilon < math.inf:
            raise UsageError(
                f"drift.noise_epsilon is {epsilon:g}; it is {MIN_EPSILON:g} or more (much noise to "
                "little), or 0 for none"
            )
        if not 0 <= self.drift.release_words <= MAX_DEVICES:
            raise UsageError(
                f"drift.release_words is {self.drift.release_words}; it is the number of devices "
                f"after which a new word is told, 1 to {MAX_DEVICES}, or 0 for never"
            )

    def given(self, what: str) -> Path:
        """Return the path of the model or the reference data.

        Raises:
            UsageError: the recipe has none.
        """
        path = self.model if what == "model" else self.data.reference
        if not path:
            raise UsageError(f"no {what} was given, and the recipe names none")
        return Path(path)


class Keywords(TypedDict, total=False):
    """Keywords of `whimbrel_packager.pack` that set single keys of the recipe; None: as it is."""

    name: str
    version: str
    release: int | None
    label: str | None
    held_out: str | None
    positive: str | None
    units: Mapping[str, str] | None
    params: Mapping[str, str] | None
    description: str
    licence: str
    device_classes: Sequence[str]
    drift: DriftPolicy | None
    describe: Sequence[Describe] | None
    slices: Sequence[Segment] | None
    profile_columns: Sequence[str]
    rtol: float
    atol: float | None
    options: Options | None
    limits: Limits | None
    gates: Gates | None


_KEYS = {
    "options": "source",
    "params": "training",
    "describe": "profile.describe",
    "slices": "profile.slices",
    "profile_columns": "profile.columns",
    **{name: f"data.{name}" for name in ("label", "held_out", "positive", "units")},
    **{name: f"parity.{name}" for name in ("rtol", "atol")},
}


def changed(recipe: Recipe | Path | str | None, **settings: Unpack[Keywords]) -> Recipe:
    """Return a recipe with some `Keywords` set.

    Raises:
        UsageError: an unknown keyword, or a value of the wrong type.
        ConfigError: the recipe's file cannot be read, or has a key or value not understood.
    """
    for name in settings:
        if name not in Keywords.__annotations__:
            near = difflib.get_close_matches(name, Keywords.__annotations__, n=1)
            raise UsageError(
                f"pack() has no keyword {name!r}",
                hint=f"did you mean {near[0]!r}?" if near else "put it into the recipe",
            )
    if not isinstance(recipe, Recipe):
        recipe = read(Path(recipe) if recipe is not None else None)
    return with_values(recipe, {_KEYS.get(name, name): value for name, value in settings.items()})


def with_values(recipe: Recipe, values: Mapping[str, object]) -> Recipe:
    """Return a recipe with some dotted keys set; None values are passed over.

    Raises:
        UsageError: a value of the wrong type.
    """
    tree = msgspec.to_builtins(recipe)
    for dotted, value in values.items():
        if value is not None:
            node = tree
            *sections, key = dotted.split(".")
            for section in sections:
                node = node[section]
            node[key] = msgspec.to_builtins(value)
    try:
        return msgspec.convert(tree, Recipe, strict=False)
    except msgspec.ValidationError as error:
        raise UsageError(f"the recipe cannot be: {error}") from error


def read(path: Path | None) -> Recipe:
    """Return the recipe in a file; relative paths in it are taken from its folder.

    Raises:
        UsageError: the file cannot be read.
        ConfigError: it has a key or a value that is not understood.
    """
    text = ""
    if path is not None:
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"the recipe {path} cannot be read: {error}") from error
    origin = str(path) if path else "the environment"
    loaded = config.load(Recipe, text, env=os.environ, prefix=PREFIX, origin=origin)
    return loaded if path is None else _beside(loaded, path.parent)


def sorted_keys(recipe: Recipe) -> Recipe:
    """Return a recipe whose mappings are in the order of their keys, as the bundle keeps them.

    What is made of a recipe must not depend on the order in which somebody wrote it down.

    Raises:
        UsageError: it holds a number that no record can hold.
    """
    try:
        return msgspec.json.decode(canonical_json(recipe), type=Recipe)
    except msgspec.ValidationError as error:  # JSON has no infinity
        raise UsageError(f"the recipe cannot be recorded: {error}") from error


def recorded(recipe: Recipe) -> dict[str, Any]:
    """Return a recipe as the bundle keeps it: with names of files, and nothing of this machine."""
    named = with_paths(recipe, lambda _dotted, path: Path(path).name)
    # Where a checkout lies is no part of what was done; its commit is.
    lineage = msgspec.structs.replace(public(recipe.lineage), code="", lock=named.lineage.lock)
    built: dict[str, Any] = msgspec.to_builtins(msgspec.structs.replace(named, lineage=lineage))
    return built


def with_paths(recipe: Recipe, change: Callable[[str, str], str]) -> Recipe:
    """Return a recipe with ``change(dotted, path)`` for each of its `PATHS` that is given."""
    values: dict[str, object] = {}
    for dotted in PATHS:
        node: Any = recipe
        for part in dotted.split("."):
            node = getattr(node, part, None)  # a section that is not there
        if node:
            values[dotted] = change(dotted, node)
    return with_values(recipe, values)


def other_files(recipe: Recipe) -> dict[str, Path]:
    """Return the files that a recipe names beside model and data, and a folder of served rows."""
    found: dict[str, Path] = {}

    def note(key: str, path: str) -> str:
        if key not in GIVEN and (Path(path).is_file() or (key == SERVING and Path(path).is_dir())):
            found[key] = Path(path)
        return path

    with_paths(recipe, note)
    return found


def _beside(recipe: Recipe, folder: Path) -> Recipe:
    """Return the recipe with its paths taken from the folder it lies in."""
    code = {"lineage.code": recipe.lineage.code or "."}
    return with_paths(
        with_values(recipe, code),
        # A repository may also be an address.
        lambda _dotted, path: path if "://" in path else str(folder / path),
    )
