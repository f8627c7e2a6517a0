"""The report on a bundle: everything in it, nothing beside it, whoever made it up."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING

import msgspec
import pytest

from tests.packager.command import whimbrel
from tests.support import models
from tests.support.browser import chromium
from tests.support.page import CONTRAST, Reader
from whimbrel_core.bundle.manifest import GateOutcome, GatePart, Optimisation
from whimbrel_packager import contents
from whimbrel_packager.pages import report
from whimbrel_packager.signing import keyfiles

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.packager.conftest import Packed

HOSTILE = '<script>alert("1")</script>&\'<img src=x onerror=y>'
ALWAYS = ["Schema", "Proof of conversion", "Runtime", "Baseline", "Lineage", "Files"]
GATES = (
    GateOutcome("quality.auc", "quality", held=True, measured=0.7, rule="at least", threshold=0.6,
                interval=(0.66, 0.74), rows=500, message="area under the ROC is 0.7"),
    GateOutcome("slices.carrier.gap", "slices", held=True, measured=0.05, rule="at most",
                threshold=0.1, parts=(GatePart("AA", 200, 0.05, (0.01, 0.09)),
                                      GatePart("B6", 20, None, judged=False))),
    GateOutcome("incumbent.auc", "incumbent", held=True, judged=False, message="none before"),
)  # fmt: skip


def read(packed: Packed, *, trust: bool = True) -> contents.Contents:
    keys = [keyfiles.public(packed.key)] if trust else []
    return contents.read(io.BytesIO(packed.content), what="test", keys=keys)


def with_everything(found: contents.Contents) -> contents.Contents:
    """The contents of a bundle that also has gates, segments, and was made smaller."""
    manifest = msgspec.structs.replace(
        found.manifest,
        gates=GATES,
        optimisation=Optimisation("int8-static", "basic", 400_000, 30.0, {"auc": 0.002},
                                  {"auc": 0.01}, 500, 0.01, 0.1),
    )  # fmt: skip
    return msgspec.structs.replace(found, manifest=manifest)


def test_a_report_holds_the_whole_bundle_and_loads_nothing(packed: Packed, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    done = whimbrel("report", packed.bundle, "--trust", packed.folder / "keys" / "bundle.pub",
                    "--out", out)  # fmt: skip
    assert done.code == 0, done.err
    assert "verified, by key" in done.out
    page = out.read_text(encoding="utf-8")
    seen = Reader(page)
    for said in ("flights", "1.0.0", "signature verified", "temp", "degF",
                 "carrier", "HistGradientBoostingClassifier", "threshold", "Calibration",
                 "onnxruntime", "scikit-learn", "reference file", packed.result["digest"]):  # fmt: skip
        assert said in seen.text, said
    assert seen.titles == ["Schema", "Quality", "Proof of conversion", "Runtime", "Baseline",
                           "Lineage", "Bill of materials", "Files"]  # fmt: skip
    with zipfile.ZipFile(packed.bundle) as archive:
        for name in archive.namelist():
            assert name in seen.text
    for digest in contents.read(io.BytesIO(packed.content), what="test").digests.values():
        assert digest in seen.text
    assert not {"script", "img", "link", "iframe", "object", "form"} & set(seen.tags)
    addresses = [v for name, v in seen.attributes if name in {"src", "href", "action", "srcset"}]
    assert all(address.startswith("#") for address in addresses)
    style = page.partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style
    assert not [name for name, _ in seen.attributes if name.startswith("on") or name == "style"]
    ids = {value for name, value in seen.attributes if name == "id"}
    assert {address[1:] for address in addresses} <= ids


def test_the_same_bundle_gives_the_same_report_everywhere(packed: Packed, tmp_path: Path) -> None:
    elsewhere = tmp_path / "renamed.whim"
    shutil.copy(packed.bundle, elsewhere)
    pages = []
    for seed, bundle in (("1", packed.bundle), ("2", elsewhere)):
        done = subprocess.run(
            [sys.executable, "-m", "whimbrel_core.cli", "report", str(bundle), "--out", "-"],
            capture_output=True,
            env={**os.environ, "PYTHONHASHSEED": seed, "TZ": f"UTC+{seed}"},
            cwd=tmp_path,
            check=True,
        )
        pages.append(done.stdout)
    assert pages[0] == pages[1] == report.build(read(packed, trust=False)).encode()


def test_without_a_key_the_report_says_that_nobody_vouches(packed: Packed, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    done = whimbrel("report", packed.bundle, "--out", out, "--json")
    assert done.code == 0
    value = msgspec.json.decode(done.out)
    assert value["verified"] is False
    assert value["key_id"] == keyfiles.public(packed.key).id, "the key that the file names"
    text = Reader(out.read_text()).text
    assert "not verified" in text
    assert "nobody vouches" in text
    assert "signature verified" not in text


def test_a_bundle_without_signature_is_reported_as_unsigned(packed: Packed, tmp_path: Path) -> None:
    bare = tmp_path / "bare.whim"
    without(packed.bundle, bare, "model.sig")
    done = whimbrel("report", bare, "--out", tmp_path / "r.html")
    assert done.code == 0
    assert "NOT SIGNED" in done.out
    assert "not signed" in Reader((tmp_path / "r.html").read_text()).text
    refused = whimbrel("report", bare, "--trust", packed.key, "--out", tmp_path / "s.html")
    assert refused.code == 3
    assert "has no model.sig" in refused.err
    assert not (tmp_path / "s.html").exists()


def without(bundle: Path, target: Path, *names: str, **changed: bytes) -> None:
    with zipfile.ZipFile(bundle) as old, zipfile.ZipFile(target, "w") as new:
        for info in old.infolist():
            if info.filename not in names:
                stem = info.filename.partition(".")[0]
                kept = info.filename == "model.onnx"
                data = old.read(info.filename)
                new.writestr(info, data if kept else changed.get(stem, data))


def test_a_key_that_did_not_sign_writes_no_report(packed: Packed, tmp_path: Path) -> None:
    keyfiles.create(tmp_path, "other")
    out = tmp_path / "r.html"
    done = whimbrel("report", packed.bundle, "--trust", tmp_path / "other.pub", "--out", out)
    assert done.code == 4
    assert "trust" in done.err
    assert not out.exists()


def newer(content: bytes) -> bytes:
    """The bundle as a later format would be."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(target, "w") as new:
        for info in old.infolist():
            data = old.read(info.filename)
            if info.filename == "manifest.json":
                data = data.replace(b'"format":1,', b'"format":9,')
            new.writestr(info, data)
    return target.getvalue()


def foreign(_: bytes) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as made:
        made.writestr("word/document.xml", "<w/>")
    return target.getvalue()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda content: content[: len(content) // 2], "not a bundle, or cut short"),
        (foreign, "the bundle has no manifest.json"),
        (lambda _: b"MZ" * 500, "not a bundle, or cut short"),
        (lambda _: b"", "not a bundle, or cut short"),
        (newer, "bundle format is 9"),
    ],
    ids=["cut short", "foreign zip", "no zip", "empty", "newer format"],
)
@pytest.mark.parametrize("command", ["report", "diff"])
def test_what_is_no_bundle_is_named_and_nothing_is_written(
    packed: Packed, tmp_path: Path, spoil: Callable[[bytes], bytes], said: str, command: str
) -> None:
    bad, out = tmp_path / "bad.whim", tmp_path / "out.html"
    bad.write_bytes(spoil(packed.content))
    words = [bad, "--out", out] if command == "report" else [packed.bundle, bad, "--html", out]
    done = whimbrel(command, *words)
    assert done.code == 3
    assert f"{bad}: " in done.err
    assert said in done.err
    assert "hint:" in done.err or "has no manifest" in done.err
    assert not out.exists()


@pytest.mark.parametrize(("what", "said"), [("none.whim", "No such file"), ("", "directory")])
def test_a_bundle_that_cannot_be_read_is_named(tmp_path: Path, what: str, said: str) -> None:
    done = whimbrel("report", tmp_path / what, "--out", tmp_path / "r.html")
    assert done.code == 2
    assert said in done.err


def test_a_report_never_replaces_the_bundle(packed: Packed, tmp_path: Path) -> None:
    bundle = tmp_path / "b.whim"
    shutil.copy(packed.bundle, bundle)
    done = whimbrel("report", bundle, "--out", bundle)
    assert done.code == 2
    assert "the bundle itself" in done.err
    assert bundle.read_bytes() == packed.content
    assert whimbrel("report", bundle, "--out", tmp_path).code == 2


def test_a_part_that_cannot_be_read_does_not_hide_the_others(
    packed: Packed, tmp_path: Path
) -> None:
    odd = tmp_path / "odd.whim"
    without(packed.bundle, odd, sbom=b"[1]", provenance=b"{}", parity=b"PK")
    done = whimbrel("report", odd, "--out", tmp_path / "r.html", "--json")
    assert done.code == 0, done.err
    unread = msgspec.json.decode(done.out)["unread"]
    assert set(unread) == {"sbom.cdx.json", "provenance.json", "parity.npz"}
    seen = Reader((tmp_path / "r.html").read_text())
    for message in unread.values():
        assert message in seen.text
    assert set(ALWAYS) <= set(seen.titles)


@pytest.mark.parametrize(
    "garbage", [b"\xff\xfe", b"[]", b'{"verificationMaterial": 7}', b"{" * 9999]
)
def test_a_signature_that_is_none_names_no_key(
    packed: Packed, tmp_path: Path, garbage: bytes
) -> None:
    odd = tmp_path / "odd.whim"
    without(packed.bundle, odd, model=garbage)
    with odd.open("rb") as file:
        assert contents.read(file, what="test").signature == contents.Signature("unchecked")


def test_a_baseline_that_is_none_is_an_error_that_names_the_bundle(
    packed: Packed, tmp_path: Path
) -> None:
    odd = tmp_path / "odd.whim"
    without(packed.bundle, odd, baseline=b"nothing")
    done = whimbrel("report", odd, "--out", tmp_path / "r.html")
    assert done.code == 3
    assert f"{odd}: baseline.bin: " in done.err


def test_sections_without_data_are_left_out(tmp_path: Path) -> None:
    made = models.build_bundle(tmp_path, models.regression())
    found = contents.read(io.BytesIO(made.path.read_bytes()), what="test")
    bare = msgspec.structs.replace(
        found, manifest=msgspec.structs.replace(found.manifest, metrics={}), unread={}
    )
    assert Reader(report.build(bare)).titles == [title for title in ALWAYS if title != "Lineage"]


def test_everything_that_a_bundle_can_hold_has_its_place(packed: Packed) -> None:
    found = with_everything(read(packed))
    seen = Reader(report.build(found))
    assert seen.titles == ["Schema", "Quality", "Gates", "Proof of conversion", "Made smaller",
                           "Runtime", "Baseline", "Lineage", "Bill of materials", "Files"]  # fmt: skip
    for said in ("2 gates held", "1 gate not judged", "20, too few", "int8-static", "AA",
                 "0.66 to 0.74", "none before", "at most 0.01"):  # fmt: skip
        assert said in seen.text, said


def poisoned(value: object, *keep: str) -> object:
    """Put a script into every text of a tree."""
    if isinstance(value, dict):
        return {
            k if k in keep or k.isidentifier() else k + HOSTILE: poisoned(v, *keep)
            if k not in keep else v
            for k, v in value.items()
        }  # fmt: skip
    if isinstance(value, list | tuple):
        return [poisoned(one, *keep) for one in value]
    return value + HOSTILE if isinstance(value, str) else value


def test_nothing_that_is_written_into_a_bundle_becomes_markup(packed: Packed) -> None:
    tree = msgspec.to_builtins(with_everything(read(packed)))
    # Some words mean something to the formats themselves.
    keep = ("datatype", "role", "task", "kind", "profile_id", "state", "rule", "score_tensor",
            "file", "sizes", "digests", "type")  # fmt: skip
    found = msgspec.convert(poisoned(tree, *keep), contents.Contents)
    assert HOSTILE in found.baseline.layout.features[0].name
    page = report.build(found)
    seen = Reader(page)
    assert not {"script", "img"} & set(seen.tags)
    assert not [name for name, _ in seen.attributes if name.startswith("on")]
    assert seen.text.count('<script>alert("1")') > 50
    assert "<script" not in page
    assert not re.search(r"<img", page)


@pytest.mark.needs("chromium")
@pytest.mark.timeout(120)
def test_a_browser_shows_the_report_at_any_width_without_complaint(
    packed: Packed, tmp_path: Path
) -> None:
    out = tmp_path / "r.html"
    long = msgspec.structs.replace(read(packed).manifest, description="x" * 200, name="n" * 60)
    found = msgspec.structs.replace(with_everything(read(packed)))
    out.write_text(report.build(msgspec.structs.replace(found, manifest=long)))
    with chromium(tmp_path) as page:
        for width in (360, 800, 1360):
            page.call("Emulation.setDeviceMetricsOverride", width=width, height=900,
                      deviceScaleFactor=1, mobile=False)  # fmt: skip
            page.open(out.as_uri())
            assert page.value("document.documentElement.scrollWidth") <= width
            assert page.value("getComputedStyle(document.body).maxWidth") != "none", "no stylesheet"
        for scheme in ("light", "dark"):
            page.call("Emulation.setEmulatedMedia",
                      features=[{"name": "prefers-color-scheme", "value": scheme}])  # fmt: skip
            page.open(out.as_uri())
            assert page.value(CONTRAST) == [], scheme
        assert page.complaints == []
        assert {r for r in page.requests if not r.startswith(("about:", "file:"))} == set()
