"""Gates as people meet them: a recipe, the command, an exit code, a report; and the bundle's record."""

from __future__ import annotations

import io
import json
import shutil
import tomllib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

import whimbrel_packager
from tests.packager.command import whimbrel
from tests.packager.conftest import Packed, late_flights
from tests.packager.proving import InProcess
from tests.support.founded import founded
from whimbrel_core.bundle import bundle as bundles
from whimbrel_core.errors import ConfigError, GateError, TrustError, UsageError
from whimbrel_packager.gates import Context, Outcome, Verdict
from whimbrel_packager.recipe import Recipe, read, recorded
from whimbrel_packager.repository import publishing
from whimbrel_packager.signing import keyfiles

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from whimbrel_packager.build import PackResult

RECIPE = """
name = "flights"
version = "1.1.0"
release = 2
model = "model.joblib"

[source]
allow_pickle = true

[data]
reference = "data.npz"
label = "late"
held_out = "held_out"
positive = "true"

[gates]
confidence = 0.9
undeclared = "refuse"

[gates.columns]
temp = { type = "number", min = -60, max = 140, max_null = 0 }
wind = { type = "number", min = 0, max_null = 0.2 }
hour = { type = "integer", min = 5, max = 23 }
carrier = { type = "text", categories = ["AA", "B6", "UA"] }

[gates.data]

[gates.quality]
auc = 0.6

[[gates.slices]]
column = "carrier"
max_gap = 0.2

[gates.budgets]
model_bytes = 1000000
bundle_bytes = 1000000
latency_us = 1000000
"""


@pytest.fixture
def home(packed: Packed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of training code with a recipe, the model, its data and the key; we are in it."""
    for file in (packed.model, packed.data, packed.key):
        shutil.copy(file, tmp_path)
    (tmp_path / "whimbrel.toml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    with InProcess():
        yield tmp_path


def rewrite(home: Path, *changes: tuple[str, str], more: str = "") -> None:
    text = RECIPE
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (home / "whimbrel.toml").write_text(text + more)


def pack(key: Path, **settings: Any) -> PackResult:  # noqa: ANN401 - keywords of pack
    return whimbrel_packager.pack(key=key, recipe="whimbrel.toml", out="out", **settings)


def test_a_recipe_whose_gates_hold_is_packed_and_the_bundle_says_what_was_found(home: Path) -> None:
    done = whimbrel("pack", "--key", "bundle.pem", "--report-json", "gates.json")
    assert done.code == 0, done.err
    assert "following whimbrel.toml" in done.err
    assert "gates     11 gates hold" in done.out
    report = msgspec.json.decode((home / "gates.json").read_bytes(), type=Verdict)
    assert report.held
    with (home / "flights-1.1.0.whim").open("rb") as file:
        manifest = bundles.open_bundle(file, [keyfiles.public(home / "bundle.pem")]).manifest
    recorded = {outcome.name: outcome for outcome in manifest.gates}
    assert recorded["columns"].message == "11 checks on 5 columns hold"
    assert recorded["quality.auc"].measured == pytest.approx(manifest.metrics["auc"], abs=1e-4)
    assert recorded["quality.auc"].rows == 500
    assert {part.name for part in recorded["slices.carrier.gap"].parts} == {"AA", "B6", "UA"}
    assert recorded["budgets.latency_us"].measured == manifest.metrics["latency_us"]
    size = (home / "flights-1.1.0.whim").stat().st_size
    assert size - (recorded["budgets.bundle_bytes"].measured or 0) < 12_000


def test_a_failed_gate_is_an_exit_code_a_sentence_a_report_and_no_bundle(home: Path) -> None:
    rewrite(home, ("auc = 0.6", "auc = 0.99"), ('["AA", "B6", "UA"]', '["AA"]'))
    done = whimbrel("pack", "--key", "bundle.pem", "--report-json", "gates.json")
    assert done.code == 8
    assert "2 of 12 gates do not hold" in done.err
    assert "[gate.failed]" in done.err
    assert "hint:" in done.err
    assert "FAILED      quality.auc" in done.out
    assert "none of the 1 declared: B6, UA" in done.out
    report = json.loads((home / "gates.json").read_text())
    assert report["failed"] == ["columns.carrier.categories", "quality.auc"]
    assert report["format"] == 1
    assert not list(home.glob("**/*.whim"))


def test_json_has_the_report_in_the_error(home: Path) -> None:
    rewrite(home, ("model_bytes = 1000000", "model_bytes = 1000"))
    done = whimbrel("pack", "--key", "bundle.pem", "--json")
    assert (done.code, done.out) == (8, "")
    error = json.loads(done.err)["error"]
    assert error["code"] == "gate.failed"
    assert error["report"]["failed"] == ["budgets.model_bytes"]
    held = whimbrel("pack", "--key", "bundle.pem", "--json", "--recipe", written(home, RECIPE))
    assert json.loads(held.out)["report"]["gates"]["held"]


def written(home: Path, text: str) -> Path:
    (home / "other.toml").write_text(text)
    return home / "other.toml"


def test_a_check_needs_no_key_judges_the_same_and_writes_nothing(home: Path) -> None:
    before = sorted(home.iterdir())
    done = whimbrel("pack", "--check")
    assert done.code == 0, done.err
    assert done.out.startswith("flights-1.1.0 could be packed; nothing was written")
    assert sorted(home.iterdir()) == before
    rewrite(home, ("auc = 0.6", "auc = 0.99"))
    done = whimbrel("pack", "--check", "--json")
    assert done.code == 8
    assert json.loads(done.err)["error"]["report"]["failed"] == ["quality.auc"]
    unsigned = whimbrel("pack")
    assert unsigned.code == 2
    assert "--check" in unsigned.err


def test_a_recipe_without_gates_says_how_to_begin_some(home: Path) -> None:
    (home / "whimbrel.toml").write_text(RECIPE.split("[gates]", maxsplit=1)[0])
    done = whimbrel("pack", "--check", "--report-json", "gates.json")
    assert done.code == 0
    assert "whimbrel recipe init" in done.out
    assert json.loads((home / "gates.json").read_text()) is None
    assert "gates" not in whimbrel("pack", "--key", "bundle.pem").out


def test_an_environment_variable_goes_before_the_file(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WHIMBREL_PACK__GATES__QUALITY__AUC", "0.99")
    assert whimbrel("pack", "--check").code == 8


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("auc = 0.6", "acu = 0.6", "unknown key 'gates.quality.acu'"),
        ("max_null = 0.2", "max_nul = 0.2", "unknown key 'gates.columns.wind.max_nul'"),
        ("max_gap = 0.2", "min_rows = 5", "asks for nothing"),
        ("confidence = 0.9", "confidence = 95", "gates.confidence is 95"),
    ],
)
def test_a_mistyped_gate_is_refused_and_not_passed_over(
    home: Path, old: str, new: str, message: str
) -> None:
    rewrite(home, (old, new))
    with pytest.raises(ConfigError, match=message.replace("[", r"\[")):
        read(home / "whimbrel.toml")
    assert whimbrel("pack", "--check").code == 2


def test_python_gets_the_verdict_and_may_bring_gates_of_its_own(home: Path) -> None:
    key = home / "bundle.pem"

    def enough_late_flights(context: Context) -> Outcome:
        labels = context.labels
        assert labels is not None
        share = float((labels == "1").mean())
        return Outcome(
            "late_share", "own", held=share > 0.3, measured=share, message="few are late"
        )

    done = pack(key, own_gates=[enough_late_flights])
    assert done.report.gates is not None
    assert done.report.gates.held
    assert done.manifest.gates[-1].name == "late_share"
    assert done.manifest.gates[-1].kind == "own"
    with pytest.raises(GateError) as raised:
        pack(key, version="1.2.0", own_gates=[lambda _: Outcome("never", "own", held=False)])
    assert isinstance(raised.value.report, Verdict)
    assert raised.value.report.failed == ("never",)
    assert not (home / "out/flights-1.2.0.whim").exists()
    report = whimbrel_packager.check(
        recipe="whimbrel.toml", own_gates=[lambda _: Outcome("never", "own", held=False)]
    )
    assert report.gates is not None
    assert not report.gates.held


def incumbent(more: str) -> str:
    return f"\n[gates.incumbent]\n{more}\n"


def test_the_incumbent_is_asked_about_the_same_held_out_rows(packed: Packed, home: Path) -> None:
    shutil.copy(packed.bundle, home / "old.whim")
    rewrite(home, more=incumbent('bundle = "old.whim"\nmargins = { auc = 0, accuracy = 0 }'))
    done = pack(home / "bundle.pem")
    found = {outcome.name: outcome for outcome in done.manifest.gates}
    # The same model and rows: the difference is nothing, surely.
    assert found["incumbent.auc"].measured == 0
    assert found["incumbent.auc"].interval == (0.0, 0.0)
    assert found["incumbent.accuracy"].rows == 500
    rewrite(
        home,
        more=incumbent('bundle = "old.whim"\nmode = "superiority"\nmargins = { auc = 0 }'),
    )
    with pytest.raises(GateError, match=r"of flights-1\.0\.0: better by 0"):
        pack(home / "bundle.pem", version="1.2.0")


def test_an_incumbent_of_another_shape_is_fed_what_it_reads(packed: Packed, home: Path) -> None:
    """The incumbent is a matrix of two of the columns, from another conversion."""
    from sklearn.linear_model import LogisticRegression

    table, late = late_flights()
    model = LogisticRegression().fit(table[["hour", "temp"]].to_numpy(), late)
    old = whimbrel_packager.pack(
        model, {"hour": table["hour"].to_numpy(), "temp": table["temp"].to_numpy()}, late,
        name="flights", version="0.9.0", key=home / "bundle.pem", out=home,
    )  # fmt: skip
    assert [tensor.name for tensor in old.manifest.inputs] == ["features"]
    rewrite(home, more=incumbent('bundle = "flights-0.9.0.whim"\nmargins = { auc = 0.05 }'))
    done = pack(home / "bundle.pem")
    found = {outcome.name: outcome for outcome in done.manifest.gates}["incumbent.auc"]
    held_out = np.arange(len(table)) % 3 == 0
    score = model.predict_proba(table[["hour", "temp"]].to_numpy())[held_out, 1]
    from sklearn.metrics import roc_auc_score

    theirs = roc_auc_score(late[held_out], score)
    assert found.measured == pytest.approx(done.manifest.metrics["auc"] - theirs, abs=1e-4)


def test_an_incumbent_that_is_forged_another_model_or_not_there_stops_the_packing(
    packed: Packed, home: Path
) -> None:
    keyfiles.create(home, "other")
    forged = home / "forged.whim"
    forged.write_bytes(packed.again("1.0.0", 1, home / "other.pem"))
    rewrite(home, more=incumbent('bundle = "forged.whim"\nmargins = { auc = 0.01 }'))
    with pytest.raises(TrustError, match=r"forged\.whim"):
        pack(home / "bundle.pem")
    trusting = 'bundle = "forged.whim"\nkey = "other.pub"\nmargins = { auc = 0.01 }'
    rewrite(home, more=incumbent(trusting))
    assert pack(home / "bundle.pem").report.gates is not None
    with pytest.raises(UsageError, match="the incumbent of 'delays' is asked for"):
        pack(home / "bundle.pem", name="delays")
    for wrong, message in (
        ('bundle = "gone.whim"', "cannot be read"),
        ("", "does not say which"),
        ('repository = "nowhere"', "nowhere"),
    ):
        rewrite(home, more=incumbent(f"{wrong}\nmargins = {{ auc = 0.01 }}"))
        with pytest.raises((UsageError, TrustError), match=message):
            pack(home / "bundle.pem", version="1.3.0")
    rewrite(home, more=incumbent('bundle = "forged.whim"\nmargins = { auc = 0.01 }'))
    with pytest.raises(UsageError, match="no key is known"):
        whimbrel_packager.check(recipe="whimbrel.toml")


def test_the_newest_release_of_a_repository_is_the_incumbent(packed: Packed, home: Path) -> None:
    keys = home / "keys"
    keys.mkdir(mode=0o700)
    shutil.copy(packed.key, keys / "bundle.pem")
    repo = founded(home / "repo", keys, home / "online", now=datetime.now(UTC))
    rewrite(home, more=incumbent('repository = "repo"\nmargins = { auc = 0.01 }'))
    first = whimbrel("pack", "--check")
    assert first.code == 0, first.err
    assert "not judged  incumbent.auc" in first.out
    assert "there is no earlier release to compare with" in first.out
    publishing.publish(repo, packed.bundle, keys, now=datetime.now(UTC), online=home / "online")
    second = whimbrel("pack", "--check", "--json")
    gates = {g["name"]: g for g in json.loads(second.out)["report"]["gates"]["gates"]}
    assert "of flights-1.0.0" in gates["incumbent.auc"]["message"]
    target = next((home / "repo/targets/bundles").rglob("*.whim"))
    target.write_bytes(target.read_bytes()[:-1] + b"x")
    spoiled = whimbrel("pack", "--check")
    assert spoiled.code == 4
    assert "is not what was signed" in spoiled.err


def test_a_repository_may_be_an_address_and_its_secrets_stay_out_of_the_record(home: Path) -> None:
    where = "https://user:secret@models.example/repository"
    rewrite(home, more=incumbent(f'repository = "{where}"\nmargins = {{ auc = 0.01 }}'))
    recipe = read(home / "whimbrel.toml")
    assert recipe.gates.incumbent is not None
    assert recipe.gates.incumbent.repository == where
    assert "secret" not in json.dumps(recorded(recipe))


def test_columns_set_aside_are_seen_by_gates_and_not_by_the_model(home: Path) -> None:
    with np.load(home / "data.npz") as held:
        columns = {name: held[name] for name in held.files}
    rows = len(columns["late"])
    day = np.arange(rows) // 50
    columns["region"] = np.array(["north", "south"])[day % 2]
    np.savez(home / "data.npz", **columns, day=day)
    rewrite(
        home,
        ("[gates]", 'aside = ["day", "region"]\n\n[gates]\ngroups = "day"'),
        ("max_gap = 0.2", 'max_gap = 0.2\n[[gates.slices]]\ncolumn = "region"\nmax_gap = 0.2'),
    )
    done = pack(home / "bundle.pem")
    assert [tensor.name for tensor in done.manifest.inputs] == ["temp", "wind", "hour", "carrier"]
    found = {outcome.name: outcome for outcome in done.manifest.gates}
    assert {part.name for part in found["slices.region.gap"].parts} == {"north", "south"}
    rewrite(home, ("[gates]", 'aside = ["weather"]\n\n[gates]'))
    assert whimbrel("pack", "--check").code == 3


def test_under_a_fixed_date_the_bundle_with_its_gates_is_the_same_twice(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    made = []
    for turn in ("one", "two"):
        done = whimbrel_packager.pack(key=home / "bundle.pem", recipe="whimbrel.toml", out=turn)
        made.append(done.path.read_bytes())
    assert made[0] == made[1]
    manifest, _ = bundles.inspect(io.BytesIO(made[0]))
    found = {outcome.name: outcome for outcome in manifest.gates}
    assert found["budgets.latency_us"].measured is None
    assert found["budgets.model_bytes"].measured == manifest.model.size_bytes


def test_a_bundle_is_made_again_with_what_gates_found_on_its_day(
    packed: Packed, home: Path
) -> None:
    from whimbrel_packager.rebuild import Permissions, rebuild

    shutil.copy(packed.bundle, home / "old.whim")
    rewrite(home, more=incumbent('bundle = "old.whim"\nmargins = { auc = 0.01 }'))
    done = pack(home / "bundle.pem")
    (home / "old.whim").unlink()
    again = rebuild(
        done.path, home / "model.joblib", home / "data.npz", permissions=Permissions(True)
    )
    assert again.same, again.differences


def test_a_recipe_is_begun_from_model_and_data_and_holds_at_once(home: Path) -> None:
    (home / "whimbrel.toml").unlink()
    done = whimbrel(
        "recipe", "init", "model.joblib", "--allow-pickle", "--reference", "data.npz",
        "--label", "late", "--positive", "true", "--name", "flights",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "read it, then run: whimbrel pack --check" in done.out
    text = (home / "whimbrel.toml").read_text()
    recipe = msgspec.convert(tomllib.loads(text), Recipe)
    assert recipe.data.held_out == "held_out"  # found by its name
    assert recipe.gates.columns["carrier"].categories == ("AA", "B6", "UA")
    assert recipe.gates.quality is not None
    assert recipe.gates.quality.auc is not None
    assert whimbrel("pack", "--check").code == 0
    again = whimbrel("recipe", "init", "--reference", "data.npz")
    assert again.code == 2
    assert (home / "whimbrel.toml").read_text() == text
    early = whimbrel("recipe", "init", "--reference", "data.npz", "--out", "early.toml", "--json")
    assert early.code == 0, early.err
    assert "needs the model" not in json.loads(early.out)["recipe"]
    assert (home / "early.toml").exists()


def test_a_feature_store_and_a_sample_of_what_is_served_are_asked(home: Path) -> None:
    schema = '[features.%s]\ntype = "%s"\n'
    columns = {"temp": "number", "wind": "number", "hour": "integer", "carrier": "text"}
    (home / "features.toml").write_text("".join(schema % pair for pair in columns.items()))
    with np.load(home / "data.npz") as held:
        served = {name: held[name][:400] for name in columns}
    np.savez(home / "served.npz", **served)
    skew = '\n[gates.skew]\ndefinitions = "features.toml"\nserving = "served.npz"\n'
    rewrite(home, more=skew)
    assert whimbrel("pack", "--check").code == 0
    np.savez(home / "served.npz", **{**served, "temp": served["temp"] + np.float32(20)})
    done = whimbrel("pack", "--check")
    assert done.code == 8
    assert "PSI of 'temp' between training and serving" in done.out
    rewrite(home, more='\n[gates.skew]\ndefinitions = "store/feature_store.yaml"\n')
    assert whimbrel("pack", "--check").code == 2
    (home / "store").mkdir()
    for text, code in (
        ("registry: registry.db\n", 2),
        ("registry: postgresql://feast\n", 2),
        ("registry:\n  registry_type: file\n  path: ../features.db\n", 3),
    ):
        (home / "features.db").write_bytes(b"\xff\xff")
        (home / "store/feature_store.yaml").write_text(f"project: x\n{text}provider: local\n")
        assert whimbrel("pack", "--check").code == code, text
