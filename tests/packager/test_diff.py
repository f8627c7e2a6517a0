"""What differs between two bundles, and whether those who call the old one can stay as they are."""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np
import pytest

from tests.packager.test_report import HOSTILE, poisoned, with_everything
from tests.support import models
from tests.support.page import Reader
from whimbrel_core.bundle.manifest import (
    DriftPolicy,
    GateOutcome,
    Lineage,
    Output,
    Requirements,
    Tensor,
)
from whimbrel_core.signing.keys import PrivateKey
from whimbrel_packager import contents
from whimbrel_packager.comparison import figures
from whimbrel_packager.comparison.change import LEVELS, ordered
from whimbrel_packager.comparison.difference import Difference, compare
from whimbrel_packager.pages import difference as pages

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.packager.conftest import Packed

COMPATIBLE = "compatible: devices can be updated without changing callers"
Contents = contents.Contents


@pytest.fixture(scope="module")
def key() -> PrivateKey:
    return PrivateKey.generate()


def made(folder: Path, key: PrivateKey, recipe: models.Recipe, number: int) -> models.MadeBundle:
    return models.build_bundle(folder, recipe, version=f"1.{number}.0", release=number + 1, key=key)


def read(bundle: models.MadeBundle) -> Contents:
    with bundle.path.open("rb") as file:
        return contents.read(file, what="test", keys=[bundle.key.public])


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory, key: PrivateKey) -> Contents:
    return read(made(tmp_path_factory.mktemp("old"), key, models.mixed(), 0))


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory, key: PrivateKey) -> Contents:
    return read(made(tmp_path_factory.mktemp("new"), key, models.mixed(), 1))


_digests = (f"{n:064x}" for n in itertools.count())


def changed(one: Contents, **fields: object) -> Contents:
    """The contents with other fields in the manifest, and another digest, as it would have."""
    manifest = msgspec.structs.replace(one.manifest, **fields)
    return msgspec.structs.replace(one, manifest=manifest, digest=next(_digests))


def with_feature(one: Contents, feature: str, **fields: object) -> Contents:
    layout = one.baseline.layout
    features = tuple(
        msgspec.structs.replace(f, **fields) if f.name == feature else f for f in layout.features
    )
    baseline = msgspec.structs.replace(
        one.baseline, layout=msgspec.structs.replace(layout, features=features)
    )
    return msgspec.structs.replace(one, baseline=baseline, digest=next(_digests))


def told(found: Difference, level: str) -> list[str]:
    return [one.text for one in found.changes if one.level == level]


def test_a_rebuilt_model_is_compatible_and_says_only_what_differs(
    old: Contents, new: Contents
) -> None:
    found = compare(old, new, delta_bytes=1000)
    assert found.compatible
    assert found.update
    assert found.verdict == COMPATIBLE
    assert {one.state for one in found.features} == {"ok"}
    assert [one.what for one in found.changes] == ["size"]
    assert "as a delta 1.0 kB" in found.changes[0].text


def test_a_bundle_does_not_differ_from_itself(old: Contents) -> None:
    found = compare(old, old)
    assert found.changes == ()
    assert found.verdict == "identical: both are the same file"


def drop_input(one: Contents) -> Contents:
    return changed(one, inputs=one.manifest.inputs[1:])


def add_input(one: Contents) -> Contents:
    return changed(one, inputs=(*one.manifest.inputs, Tensor("extra", "FP32", (-1, 1))))


def retype(one: Contents) -> Contents:
    first = msgspec.structs.replace(one.manifest.inputs[0], datatype="FP64")
    return changed(one, inputs=(first, *one.manifest.inputs[1:]))


def reshape(one: Contents) -> Contents:
    first = msgspec.structs.replace(one.manifest.inputs[0], shape=(-1, 7))
    return changed(one, inputs=(first, *one.manifest.inputs[1:]))


def drop_output(one: Contents) -> Contents:
    return changed(one, outputs=one.manifest.outputs[:1])


def reinterpret(one: Contents) -> Contents:
    first = msgspec.structs.replace(one.manifest.outputs[0], role="other")
    return changed(one, outputs=(first, *one.manifest.outputs[1:]))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (drop_input, "input 'wind' is gone"),
        (add_input, "input 'extra' (FP32[batch, 1]) has to be sent now"),
        (retype, "input 'wind' is FP64[batch, 1], was FP32[batch, 1]"),
        (reshape, "input 'wind' is FP32[batch, 7], was FP32[batch, 1]"),
        (drop_output, "output 'probabilities' is gone"),
        (reinterpret, "output 'label' means other, meant label"),
        (lambda c: changed(c, classes=("late", "on_time")),
         "classes: in another order: late, on_time, was on_time, late"),
        (lambda c: changed(c, classes=("on_time", "gone")), "classes: late gone, gone new"),
        (lambda c: changed(c, classes=("on_time", "late", "very")), "classes: very new"),
        (lambda c: changed(c, task="regression"), "the task is regression, was classification"),
        (lambda c: changed(c, name="other"), "is another model: other, was churn"),
    ],
    ids=["input gone", "input new", "datatype", "shape", "output gone", "meaning", "class order",
         "class gone", "class new", "task", "model"],
)  # fmt: skip
def test_callers_break_by_name(
    old: Contents, new: Contents, change: Callable[[Contents], Contents], said: str
) -> None:
    found = compare(old, change(new))
    assert not found.compatible
    assert not found.update
    assert said in told(found, "breaking")
    assert found.verdict.startswith(f"breaking: {told(found, 'breaking')[0]}")


def test_another_unit_breaks_callers_silently_and_is_told_loudly(
    old: Contents, new: Contents
) -> None:
    found = compare(with_feature(old, "wind", unit="degC"), with_feature(new, "wind", unit="degF"))
    assert found.verdict == (
        "breaking: 'wind' is in degF, was in degC: the same numbers mean something else"
    )
    assert compare(old, with_feature(new, "wind", unit="degF")).compatible
    lost = compare(with_feature(old, "wind", unit="degC"), new)
    assert told(lost, "notice") == ["'wind' does not say its unit any more, which was degC"]


def test_columns_of_a_matrix_that_changed_places_break_callers(
    tmp_path: Path, key: PrivateKey
) -> None:
    was, now = (read(made(tmp_path / str(i), key, models.logistic(4, seed=0), i)) for i in range(2))
    names = [f.name for f in now.baseline.layout.features if f.role == "input"]
    swapped = with_feature(now, names[1], name="spare")
    swapped = with_feature(swapped, names[2], name=names[1])
    swapped = with_feature(swapped, "spare", name=names[2])
    found = compare(was, swapped)
    assert not found.compatible
    assert f"1 is {names[2]}, was {names[1]}" in found.verdict


def test_what_callers_do_not_see_does_not_break_them(old: Contents, new: Contents) -> None:
    more = changed(
        new,
        outputs=(*new.manifest.outputs, Output("debug", "FP32", (-1, 3))),
        requirements=Requirements(onnxruntime="1.25", device_classes=("gateway",)),
        drift=DriftPolicy(window_s=7, warn_psi=0.3),
        model=msgspec.structs.replace(
            new.manifest.model, opsets={"": 21}, operators={"com.microsoft.Attention": 1}
        ),
        parity=msgspec.structs.replace(new.manifest.parity, rtol=0.1),
        licence="MIT",
        training={"season": "spring"},
        lineage=Lineage(commit="a" * 40, dirty=True, seeds={"model": 3}),
    )
    found = compare(old, more)
    assert found.compatible
    assert told(found, "warn") == [
        "needs onnxruntime 1.25 or newer, was 1.17: devices with an older one refuse it",
        "is for devices of class gateway, was for any",
    ]
    notices = " ".join(told(found, "notice"))
    for said in ("rtol of parity is looser: 1e-05 → 0.1", "of com.microsoft, which was not needed",
                 "warn_psi 0.3, was 0.1", "window_s 7", "licence is MIT, was not stated",
                 "code had uncommitted changes"):  # fmt: skip
        assert said in notices, said
    infos = " ".join(told(found, "info"))
    for said in ("output 'debug' (FP32[batch, 3]) is there now", "opset ai.onnx 21, was",
                 "code is of commit aaaaaaaaaaaa, was unknown", "seeds: model none → 3",
                 "training: season none → spring"):  # fmt: skip
        assert said in infos, said
    back = compare(more, old)
    assert "does without operators: com.microsoft.Attention" in told(back, "info")
    assert not [text for text in told(back, "warn") if "onnxruntime" in text]


def test_an_older_release_is_compatible_but_no_update(old: Contents, new: Contents) -> None:
    found = compare(new, old)
    assert found.compatible
    assert not found.update
    assert found.verdict == (
        "compatible, but no update: release 1 is not above 2, so devices that have the old one "
        "refuse it"
    )
    assert told(found, "severe")[0].startswith("release 1 is not above 2")


def test_gates_that_were_dropped_or_made_easier_are_told(old: Contents, new: Contents) -> None:
    def gate(
        name: str, threshold: float, rule: Literal["at least", "at most"] = "at least",
        *, judged: bool = True,
    ) -> GateOutcome:  # fmt: skip
        return GateOutcome(name, "quality", held=True, rule=rule, threshold=threshold,
                           measured=1.0, judged=judged)  # fmt: skip

    before = changed(old, gates=(gate("quality.auc", 0.7), gate("quality.brier", 0.1, "at most"),
                                 gate("quality.f1", 0.2), gate("skew", 0.1)))  # fmt: skip
    after = changed(
        new,
        gates=(gate("quality.auc", 0.6), gate("quality.brier", 0.05, "at most"),
               gate("skew", 0.1, judged=False), gate("data", 0.0)),
    )  # fmt: skip
    found = compare(before, after)
    gates = {(c.level, c.what): c.text for c in found.changes if c.area == "gates"}
    assert gates["warn", "quality.f1"] == "gate quality.f1 is not asked for any more"
    assert gates["notice", "quality.auc"].endswith("at least 0.6, was 0.7: easier")
    assert gates["info", "quality.brier"].endswith("at most 0.05, was 0.1: harder")
    assert gates["notice", "skew"].endswith("could not be judged this time")
    assert gates["info", "gates"] == "had to hold as well: data"


def test_a_loss_beyond_chance_is_a_warning_and_one_by_chance_is_not(
    tmp_path: Path, key: PrivateKey
) -> None:
    old, new = (read(made(tmp_path / str(i), key, models.logistic(), i)) for i in range(2))
    assert old.baseline.calibration is not None
    rows = sum(old.baseline.calibration.true) + sum(old.baseline.calibration.false)
    assert rows == models.REFERENCE_ROWS
    before = changed(old, metrics={"accuracy": 0.80, "auc": 0.9, "brier": 0.10, "latency_us": 9.0})
    slightly = compare(before, changed(new, metrics={"accuracy": 0.79, "auc": 0.9, "brier": 0.10}))
    assert [c.level for c in slightly.changes if c.area == "quality"] == ["info"]
    much = compare(before, changed(new, metrics={"accuracy": 0.70, "auc": 0.9, "brier": 0.15}))
    levels = {c.what: c.level for c in much.changes if c.area == "quality"}
    assert levels == {"accuracy": "warn", "brier": "notice"}, "of brier no interval is known"
    accuracy = next(f for f in much.figures if f.name == "accuracy")
    assert accuracy.interval is not None
    assert accuracy.interval[1] - accuracy.interval[0] == pytest.approx(
        2 * 1.96 * ((0.8 * 0.2 + 0.7 * 0.3) / rows) ** 0.5
    )
    gone = compare(before, changed(new, metrics={"accuracy": 0.8}))
    assert "AUC is not measured any more" in told(gone, "notice")


@pytest.mark.parametrize(
    ("title", "interval", "level"),
    [
        ("churn-1.0.0", (-0.04, -0.01), "warn"),
        ("churn-1.0.0", (-0.04, 0.01), "info"),
        ("churn-1.0.0-rc.1", (-0.04, -0.01), "notice"),
        ("churn-0.9.0", (-0.04, -0.01), "notice"),
        ("xchurn-1.0.0", (-0.04, -0.01), "notice"),
    ],
)
def test_the_gate_against_this_very_bundle_decides_on_the_same_rows(
    old: Contents, new: Contents, title: str, interval: tuple[float, float], level: str
) -> None:
    gate = GateOutcome(
        "incumbent.brier", "incumbent", held=True, measured=-0.02, interval=interval,
        message=f"Brier score is 0.12 against 0.1 of {title}: better by -0.02 (95 %: …), not",
    )  # fmt: skip
    before = changed(old, metrics={"brier": 0.10})
    found = compare(before, changed(new, metrics={"brier": 0.12}, gates=(gate,)))
    (brier,) = [c for c in found.changes if c.what == "brier"]
    assert brier.level == level
    assert ("on the same rows worse by 0.02" in brier.text) is (title == "churn-1.0.0")


def test_reference_data_that_moved_is_told_in_the_words_of_drift(
    tmp_path: Path, key: PrivateKey, old: Contents
) -> None:
    recipe = models.mixed()
    rows = dict(recipe.rows)
    name = next(t.name for t in recipe.inputs if t.datatype == "FP32")
    rows[name] = (rows[name] + 2 * np.nanstd(rows[name])).astype(np.float32)
    moved = read(made(tmp_path, key, dataclasses.replace(recipe, rows=rows), 1))
    found = compare(old, moved)
    assert found.features[0].feature == name, "the farthest first"
    assert found.features[0].state == "severe"
    (change,) = [c for c in found.changes if c.area == "baseline" and name in c.what]
    assert change.level == "severe"
    assert f"{name} moved in the reference data: PSI " in change.text
    assert found.compatible


def test_words_that_came_and_went_are_told(old: Contents, new: Contents) -> None:
    feature = next(f for f in new.baseline.layout.features if f.kind == "categorical")
    kept = feature.vocabulary[:-1]
    found = compare(old, with_feature(new, feature.name, vocabulary=(*kept, "ZZ")))
    texts = [c.text for c in found.changes if c.area == "schema"]
    assert f"{feature.name!r} has lost 1 word from the baseline: {feature.vocabulary[-1]}" in texts
    assert f"{feature.name!r} has 1 new word in the baseline: ZZ" in texts


def test_the_worst_comes_first(old: Contents, new: Contents) -> None:
    found = compare(old, changed(drop_input(new), licence="MIT", release=1))
    ranks = [LEVELS.index(one.level) for one in found.changes]
    assert ranks == sorted(ranks)
    assert found.changes == ordered(reversed(found.changes)) or len(set(ranks)) < len(ranks)


def test_nothing_that_is_written_into_a_bundle_becomes_markup_or_an_error(
    packed: Packed,
) -> None:
    with packed.bundle.open("rb") as file:
        plain = with_everything(contents.read(file, what="test"))
    keep = ("datatype", "role", "task", "kind", "profile_id", "state", "rule", "score_tensor",
            "file", "sizes", "digests", "type", "version", "digest")  # fmt: skip
    odd = msgspec.convert(poisoned(msgspec.to_builtins(plain), *keep), Contents)
    odd = msgspec.structs.replace(odd, digest="0" * 64)
    for old, new in ((plain, odd), (odd, plain), (odd, msgspec.structs.replace(odd, digest="1"))):
        found = compare(old, new)
        page = pages.build(found, old, new)
        seen = Reader(page)
        assert not {"script", "img"} & set(seen.tags)
        assert not [name for name, _ in seen.attributes if name.startswith("on")]
        assert HOSTILE in seen.text


def test_a_bundle_without_metrics_or_labels_is_compared_as_far_as_it_goes(
    tmp_path: Path, key: PrivateKey
) -> None:
    was, now = (read(made(tmp_path / str(i), key, models.regression(), i)) for i in range(2))
    found = compare(changed(was, metrics={}), changed(now, metrics={}))
    assert found.figures == ()
    assert "Quality" not in Reader(pages.build(found, was, now)).titles
    assert figures.told(figures.Figure("auc", None, 0.7)) == ""
