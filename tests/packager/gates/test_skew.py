"""Features as they are defined and served, against those that were trained on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.packager.gates.samples import Array, context, words
from whimbrel_core.errors import InputError, UsageError
from whimbrel_core.profile.building import reference
from whimbrel_core.profile.building.columns import ColumnSpec
from whimbrel_packager.frame import Frame
from whimbrel_packager.gates import definitions, feast
from whimbrel_packager.gates.definitions import Definitions, Feature
from whimbrel_packager.gates.skew import Skew, judge

if TYPE_CHECKING:
    from whimbrel_core.profile.baseline import Baseline
    from whimbrel_packager.gates.outcome import Outcome

STORE = Path(__file__).parent / "feast"
REGISTRY = STORE / "data/registry.db"


@pytest.mark.parametrize("file", [REGISTRY, STORE / "dump.json"], ids=["registry", "dump"])
def test_a_registry_of_feast_is_read_without_feast(file: Path) -> None:
    read = feast.read(file.read_bytes(), file.name)
    assert read.join_keys == ("airport_id",)
    assert {(f.view, f.name, f.type, f.ttl_s) for f in read.features} == {
        ("weather", "temp", "number", 7200.0),
        ("weather", "wind", "number", 7200.0),
        ("weather", "sky", "text", 7200.0),
        ("schedule", "hour", "integer", None),
        ("schedule", "carrier", "text", None),
        ("schedule", "since", "other", None),
        ("derived", "chill", "number", None),
    }


def test_a_service_names_the_features_that_are_meant() -> None:
    read = feast.read(REGISTRY.read_bytes(), "registry.db", service="late_v1")
    assert [f.name for f in read.features] == ["temp", "wind", "hour", "carrier"]
    views = feast.read(REGISTRY.read_bytes(), "registry.db", views=("schedule",))
    assert {f.view for f in views.features} == {"schedule"}


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"service": "late_v2"}, "no feature service 'late_v2'"),
        ({"views": ("wether",)}, "no feature view 'wether'"),
        ({"project": "harbour"}, "no feature views of project 'harbour'"),
    ],
)
def test_what_a_registry_does_not_have_is_said(asked: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        feast.read(REGISTRY.read_bytes(), "registry.db", **asked)  # type: ignore[arg-type]


@pytest.mark.parametrize("data", [b"\xff\xff\xff", b"{", b'{"featureViews": 3}'])
def test_what_is_no_registry_is_refused(data: bytes) -> None:
    with pytest.raises(InputError, match=r"registry\.db is no registry of Feast"):
        feast.read(data, "registry.db")


def test_a_cut_registry_is_refused_or_has_fewer_views_and_never_crashes() -> None:
    whole = REGISTRY.read_bytes()
    for end in range(0, len(whole), 37):
        try:
            feast.read(whole[:end], "registry.db")
        except (InputError, UsageError):
            continue


def test_a_schema_file_is_the_plain_way() -> None:
    text = b'join_keys = ["id"]\n[features.temp]\ntype = "number"\nttl_s = 60\n'
    read = definitions.from_schema(text, "features.toml", toml=True)
    assert read == Definitions("features.toml", (Feature("temp", "number", "", 60.0),), ("id",))
    text = b'{"features": {"temp": {"type": "number"}}}'
    assert definitions.from_schema(text, "f.json", toml=False).features[0].ttl_s is None
    for wrong in (b"features = 3", b'[features.x]\ntype = "float"', b"\xff"):
        with pytest.raises(InputError, match="is no file of feature definitions"):
            definitions.from_schema(wrong, "features.toml", toml=True)


def defined(columns: dict[str, Array], declared: Skew | None = None) -> dict[str, Outcome]:
    read = feast.read(REGISTRY.read_bytes(), "registry.db")
    found = judge(declared or Skew(), context(columns, definitions=read))
    return {outcome.name: outcome for outcome in found}


FLOATS, WHOLE, WORDS = np.zeros(3, np.float32), np.zeros(3, np.int64), words(np.array(["a"] * 3))


def test_inputs_that_are_the_defined_features_hold() -> None:
    columns: dict[str, Array] = {
        "temp": FLOATS,
        "schedule__hour": WHOLE,
        "schedule:carrier": WORDS,
        "chill": FLOATS,
    }
    assert all(outcome.held for outcome in defined(columns).values())


def test_what_is_not_defined_of_another_type_or_a_key_is_named() -> None:
    columns: dict[str, Array] = {
        "temp": WHOLE,
        "carrier": FLOATS,
        "gust": FLOATS,
        "airport_id": WORDS,
        "hour": FLOATS,
    }
    found = defined(columns)
    assert [name for name, outcome in found.items() if not outcome.held] == [
        "skew.names", "skew.types", "skew.entities",
    ]  # fmt: skip
    assert found["skew.names"].message == "gust, airport_id not defined in registry.db"
    assert "temp is served as number, and the model reads INT64" in found["skew.types"].message
    assert "carrier is served as text, and the model reads FP32" in found["skew.types"].message
    assert found["skew.entities"].message == "the model reads the join key airport_id as a feature"
    local = Skew(local=("gust", "airport_id"))
    assert defined({"temp": FLOATS, "gust": FLOATS}, local)["skew.names"].held


def test_features_are_looked_up_by_the_entities_that_the_recipe_says() -> None:
    assert defined({"temp": FLOATS}, Skew(entities=("airport_id",)))["skew.entities"].held
    wrong = defined({"temp": FLOATS}, Skew(entities=("flight_id",)))["skew.entities"]
    assert wrong.message == "features are looked up by airport_id, the recipe says flight_id"


def test_values_that_are_served_for_longer_than_allowed_are_named() -> None:
    found = defined({"temp": FLOATS, "hour": FLOATS}, Skew(max_ttl_s=7200))["skew.freshness"]
    assert not found.held
    assert found.message == "hour is served for ever"
    found = defined({"temp": FLOATS}, Skew(max_ttl_s=3600))["skew.freshness"]
    assert found.message == "temp is served for 7,200 s"
    assert defined({"temp": FLOATS}, Skew(max_ttl_s=7200))["skew.freshness"].held


def test_one_name_in_two_views_must_be_named_with_its_view() -> None:
    both = Definitions("x", (Feature("temp", "number", "in"), Feature("temp", "number", "out")))
    (names, *_) = judge(Skew(), context({"temp": FLOATS}, definitions=both))
    assert "temp defined in more than one view" in names.message
    (names, *_) = judge(Skew(), context({"in__temp": FLOATS}, definitions=both))
    assert names.held


ROWS = 3000


def rows(
    seed: int, shift: float = 0.0, words_of: str = "ab", null: float = 0.1
) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    temp = rng.normal(shift, 1, ROWS).astype(np.float32)
    gust = np.where(rng.random(ROWS) < null, np.nan, rng.gamma(2, 1, ROWS)).astype(np.float32)
    return {"temp": temp, "gust": gust, "sky": words(rng.choice(list(words_of), ROWS))}


def profile(columns: dict[str, Array]) -> Baseline:
    """As packing makes one: with outputs, which a serving sample does not have."""
    specs = [
        *(ColumnSpec(n, "input", n, 0, values) for n, values in columns.items()),
        ColumnSpec("p", "output", "p", 0, np.linspace(0, 1, ROWS).astype(np.float32)),
    ]
    return reference.build(specs, task="classification", classes=("0", "1"), score_tensor="p",
                           positive=1)  # fmt: skip


def served(sample: dict[str, Array], declared: Skew | None = None) -> dict[str, Outcome]:
    training = rows(0)
    seen = context(training, profile=profile(training), serving=Frame(sample))
    return {outcome.name: outcome for outcome in judge(declared or Skew(), seen)}


def test_served_rows_of_the_same_distribution_hold() -> None:
    found = served(rows(1), Skew(max_js=0.05))
    assert set(found) == {"skew.psi", "skew.js", "skew.null"}
    assert all(outcome.held for outcome in found.values())
    assert (found["skew.psi"].measured or 0) < 0.02


def test_what_is_served_otherwise_than_trained_is_named_with_its_distance() -> None:
    found = served(rows(1, shift=0.7))["skew.psi"]
    assert not found.held
    assert found.message.startswith("PSI of 'temp' between training and serving is 0.")
    # Deciles of two normals .7 sd apart: PSI is .44 in the limit.
    assert found.measured == pytest.approx(0.44, abs=0.08)
    assert [part.name for part in found.parts if not part.held] == ["temp"]
    found = served(rows(1, words_of="aaab"), Skew(max_js=0.1))["skew.js"]
    assert [part.name for part in found.parts if not part.held] == ["sky"]


def test_a_value_that_is_missing_when_served_is_named() -> None:
    found = served(rows(1, null=0.3))["skew.null"]
    assert not found.held
    assert found.message.startswith("missing values of 'gust': ")
    assert found.measured == pytest.approx(0.2, abs=0.03)


def test_a_sample_that_does_not_fit_or_is_too_small_is_said() -> None:
    (few,) = served({name: values[:50] for name, values in rows(1).items()}).values()
    assert (few.held, few.judged) == (True, False)
    (absent,) = served({"temp": rows(1)["temp"]}).values()
    assert absent.message == "the serving sample has no column gust, sky"
    (other,) = served({**rows(1), "temp": rows(1)["sky"]}).values()
    assert not other.held
    assert "words where the model reads numbers" in other.message
