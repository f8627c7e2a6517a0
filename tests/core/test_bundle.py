"""Bytes in, a verified bundle out — or a refusal that names the file."""

from __future__ import annotations

import io
import json
import pathlib
import zipfile

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whimbrel_core.bundle import archive, bundle, manifest, signature
from whimbrel_core.errors import BundleError, InputError, TrustError, WhimbrelError
from whimbrel_core.signing.keys import PrivateKey, PublicKey

GOLDEN = pathlib.Path(__file__).parent / "golden"
KEY = PrivateKey.generate()
MANIFEST = manifest.Manifest(
    format=1,
    name="flights",
    version="1.0.0",
    release=1,
    task="classification",
    model=manifest.ModelFile("model.onnx", 5, {"": 17}, 8),
    inputs=(manifest.Tensor("temp", "FP32", (-1, 1)),),
    outputs=(manifest.Output("probabilities", "FP32", (-1, 2), "probabilities"),),
    classes=("0", "1"),
    positive=1,
    profile_id="ab" * 32,
    source=manifest.Source("sklearn", "1.9", "LogisticRegression", "skl2onnx", "1.20"),
    parity=manifest.Parity(rows=10, cases={"real": 10}, rtol=1e-5, atol=1e-6, max_abs_error=0.0),
)
FILES = {
    bundle.MANIFEST: MANIFEST.encode(),
    bundle.MODEL: b"model" * 100,
    bundle.BASELINE: b"baseline",
    bundle.PARITY: b"parity",
    "extra/notes.txt": b"notes",
    "extra-a/notes.txt": b"more notes",
}
DATA = bundle.build(FILES, KEY)


def _open(data: bytes, *keys: PublicKey) -> bundle.Bundle:
    return bundle.open_bundle(io.BytesIO(data), keys or [KEY.public])


def _zip(entries: list[tuple[str | zipfile.ZipInfo, bytes]], compression: int = 0) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", compression) as file:
        for name, content in entries:
            file.writestr(name, content)
    return target.getvalue()


def test_equal_inputs_give_equal_bytes() -> None:
    assert bundle.build(dict(reversed(FILES.items())), KEY) == DATA


def test_a_signed_bundle_opens_with_its_identity_and_files() -> None:
    opened = _open(DATA)
    assert opened.manifest == MANIFEST
    assert opened.key_id == KEY.public.id
    assert {name: opened.read(name) for name in opened.names} == FILES


def test_it_opens_with_any_one_of_several_trusted_keys() -> None:
    assert _open(DATA, PrivateKey.generate().public, KEY.public).manifest.title == "flights-1.0.0"


def test_it_can_be_looked_at_without_keys() -> None:
    looked, sizes = bundle.inspect(io.BytesIO(DATA))
    assert looked == MANIFEST
    assert sizes[bundle.MODEL] == 500


def test_a_wrong_key_is_refused_naming_both_keys() -> None:
    other = PrivateKey.generate().public
    with pytest.raises(TrustError) as caught:
        _open(DATA, other)
    assert caught.value.code == "trust.signature"
    assert other.id[:12] in caught.value.message


@pytest.mark.parametrize("name", sorted(FILES))
def test_one_changed_byte_in_any_file_is_refused_naming_the_file(name: str) -> None:
    with zipfile.ZipFile(io.BytesIO(DATA)) as file:
        entries: dict[str, bytes] = {entry: file.read(entry) for entry in file.namelist()}
    changed = bytearray(entries[name])
    changed[0] ^= 1
    target = io.BytesIO()
    archive.write(target, {**entries, name: bytes(changed)})
    with pytest.raises(TrustError, match=name) as caught:
        _open(target.getvalue())
    assert caught.value.code == "trust.digest"


def test_a_file_that_was_not_signed_is_refused() -> None:
    with zipfile.ZipFile(io.BytesIO(DATA)) as file:
        entries = {entry: file.read(entry) for entry in file.namelist()}
    target = io.BytesIO()
    archive.write(target, {**entries, "run.sh": b"#!"})
    with pytest.raises(TrustError, match=r"run\.sh"):
        _open(target.getvalue())


def test_a_signature_of_another_bundle_does_not_serve() -> None:
    other = bundle.build({**FILES, bundle.MODEL: b"other"}, KEY)
    with zipfile.ZipFile(io.BytesIO(DATA)) as mine, zipfile.ZipFile(io.BytesIO(other)) as its:
        entries = {entry: mine.read(entry) for entry in mine.namelist()}
        entries[signature.FILE] = its.read(signature.FILE)
    target = io.BytesIO()
    archive.write(target, entries)
    with pytest.raises(TrustError, match=r"model\.onnx"):
        _open(target.getvalue())


def test_two_signatures_in_one_envelope_are_refused() -> None:
    with zipfile.ZipFile(io.BytesIO(DATA)) as file:
        entries = {entry: file.read(entry) for entry in file.namelist()}
    signed = json.loads(entries[signature.FILE])
    signed["dsseEnvelope"]["signatures"] *= 2
    target = io.BytesIO()
    archive.write(target, {**entries, signature.FILE: json.dumps(signed).encode()})
    with pytest.raises(TrustError, match="exactly one"):
        _open(target.getvalue())


def test_a_manifest_of_a_newer_format_asks_for_an_update() -> None:
    newer = msgspec.structs.replace(MANIFEST, format=2).encode()
    with pytest.raises(BundleError, match="format is 2") as caught:
        manifest.decode(newer)
    assert "update" in (caught.value.hint or "").lower()


def test_fields_that_a_later_packager_adds_are_passed_over() -> None:
    later = json.dumps({**json.loads(MANIFEST.encode()), "added": {"later": 1}}).encode()
    assert manifest.decode(later) == MANIFEST


@pytest.mark.parametrize("cut", [0, 1, 22, len(DATA) // 2, len(DATA) - 1])
def test_a_truncated_bundle_is_refused(cut: int) -> None:
    with pytest.raises(BundleError) as caught:
        _open(DATA[:cut])
    assert caught.value.hint


def _link() -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("model.onnx")
    info.create_system = 3
    info.external_attr = 0o120777 << 16
    return info


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (_zip([("../evil", b"")]), "bundle.name"),
        (_zip([("/etc/passwd", b"")]), "bundle.name"),
        (_zip([("a/../../b", b"")]), "bundle.name"),
        (_zip([("a\\b", b"")]), "bundle.name"),
        (_zip([("a/b/c/d/e", b"")]), "bundle.name"),
        (_zip([("x" * 201, b"")]), "bundle.name"),
        (_zip([("caf\u00e9", b"")]), "bundle.name"),
        (_zip([("Model", b""), ("model", b"")]), "bundle.name"),
        (_zip([(_link(), b"/etc/passwd")]), "bundle.name"),
        (_zip([("big", b"0" * 10_000)], zipfile.ZIP_DEFLATED), "bundle.archive"),
        (_zip([(f"f{i}", b"") for i in range(65)]), "bundle.limit"),
        (_zip([]), "bundle.limit"),
        (b"not a zip at all", "bundle.archive"),
    ],
)
def test_an_archive_that_the_format_forbids_is_refused_before_it_is_read(
    data: bytes, code: str
) -> None:
    with pytest.raises(BundleError) as caught:
        archive.Archive(io.BytesIO(data))
    assert caught.value.code == code


def test_a_file_over_the_size_limit_is_refused_before_it_is_read() -> None:
    with pytest.raises(BundleError, match="limit"):
        archive.Archive(io.BytesIO(DATA), archive.Limits(entry_bytes=100))
    with pytest.raises(BundleError, match="allowed"):
        archive.Archive(io.BytesIO(DATA)).read(bundle.MODEL, limit=10)


@settings(max_examples=300)
@given(st.binary(max_size=200), st.integers(0, len(DATA) - 1), st.booleans())
def test_no_bytes_whatever_open_except_the_signed_ones(noise: bytes, at: int, splice: bool) -> None:
    data = DATA[:at] + noise + (DATA[at + len(noise) :] if splice else b"")
    try:
        opened = _open(data)
    except WhimbrelError as error:
        assert isinstance(error, (InputError, TrustError))  # noqa: PT017 - both outcomes are right
    else:
        # Bytes outside of entries (a file time, say) are not content; what is read is signed.
        assert {name: opened.read(name) for name in opened.names} == FILES


def test_bundles_released_in_format_1_stay_readable() -> None:
    key = PublicKey.from_pem((GOLDEN / "bundle-v1.pub").read_bytes())
    opened = _open((GOLDEN / "bundle-v1.whim").read_bytes(), key)
    assert opened.manifest == MANIFEST
    assert opened.read(bundle.MODEL) == FILES[bundle.MODEL]
