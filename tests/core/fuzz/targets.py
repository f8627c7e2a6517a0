"""What is fuzzed: each reader of foreign bytes, with seeds, and what must hold whatever the bytes.

A target takes any bytes. It either accepts them, and then what it accepted keeps its promises, or
raises one of the errors that its documentation names; anything else that comes out is a crash.
Bytes that a checksum, a compression or a signature would stop early are wrapped by the target
itself, so that what lies behind them is reached: whoever can sign can also sign nonsense.

`test_fuzz` runs each target with hypothesis; ``make fuzz`` runs them under atheris, which follows
the branches that are taken.
"""

from __future__ import annotations

import base64
import io
import pathlib
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from tests.core.profile.described import delay_baseline, described_baseline
from whimbrel_core import identity
from whimbrel_core.bundle import archive, bundle, manifest, parity, signature
from whimbrel_core.canonical import canonical_json
from whimbrel_core.errors import BundleError, ProfileError, TrustError, WhimbrelError, WireError
from whimbrel_core.profile import baseline, flat, window
from whimbrel_core.profile.building import dataset
from whimbrel_core.profile.encoding import fields
from whimbrel_core.signing import dsse
from whimbrel_core.signing.keys import PrivateKey, PublicKey
from whimbrel_core.wire import assignment, codec, messages

if TYPE_CHECKING:
    from collections.abc import Callable

CORE = pathlib.Path(__file__).resolve().parents[1]
BUNDLE = (CORE / "golden/bundle-v1.whim").read_bytes()
PUBLISHER = PublicKey.from_pem((CORE / "golden/bundle-v1.pub").read_text())
WINDOW = (CORE / "profile/golden/window-1.bin").read_bytes()
BASELINE = (CORE / "profile/golden/baseline-1.bin").read_bytes()
PROFILE = (CORE / "profile/golden/profile-1.wprof").read_bytes()
DESCRIBED = described_baseline().encode()
REGRESSION = delay_baseline().encode()
REGRESSION_WINDOW = (CORE / "profile/golden/regression-window-1.bin").read_bytes()
KEY = PrivateKey.generate()
# Whatever is read, memory stays within a small multiple of the bytes that are there.
LIMITS = archive.Limits(entry_bytes=1 << 20, total_bytes=4 << 20)


class Target(NamedTuple):
    """One reader: what it may raise, valid inputs to start from, and the call itself."""

    run: Callable[[bytes], None]
    allowed: tuple[type[WhimbrelError], ...]
    seeds: tuple[bytes, ...]

    def __call__(self, data: bytes) -> bool:
        """Return whether ``data`` was accepted; raise whatever is no documented refusal."""
        try:
            self.run(data)
        except self.allowed:
            return False
        return True


def _archive(data: bytes) -> None:
    opened = archive.Archive(io.BytesIO(data), LIMITS)
    total = 0
    for name in opened.names:
        path = PurePosixPath(name)
        assert not path.is_absolute()
        assert ".." not in path.parts
        assert str(path) == name
        assert "\\" not in name
        content = opened.read(name)
        assert len(content) == opened.size(name)
        total += len(content)
    assert total <= len(data), "more came out than went in"
    assert len(opened.names) <= LIMITS.entries


def _bundle(data: bytes) -> None:
    opened = bundle.open_bundle(io.BytesIO(data), [PUBLISHER], limits=LIMITS)
    for name in opened.names:
        assert identity.sha256(opened.read(name)) == _SIGNED[name], "not what was signed"


def _inspect(data: bytes) -> None:
    bundle.inspect(io.BytesIO(data), LIMITS)


def _manifest(data: bytes) -> None:
    read = manifest.decode(data)
    assert manifest.decode(read.encode()) == read


def _parity(data: bytes) -> None:
    _proved(parity.decode(data))


def _parity_member(data: bytes) -> None:
    """Read the bytes as one array of a file that is right in all else."""
    files = {f"{name}.npy": content for name, content in _VECTORS.items()}
    files["input_0.npy"] = data
    out = io.BytesIO()
    archive.write(out, files)
    _proved(parity.decode(out.getvalue()))


def _proved(vectors: parity.ParityVectors) -> None:
    assert 0 < vectors.rows <= parity.MAX_ROWS
    for array in (*vectors.inputs.values(), *vectors.outputs.values()):
        assert len(array) == vectors.rows
        if array.dtype == object:
            assert all(isinstance(word, str) for word in array.ravel().tolist())


def _signature(data: bytes) -> None:
    signature.verify(data, [PUBLISHER], what="fuzzed")


def _statement(data: bytes) -> None:
    """Sign the bytes as a statement: its reader must not rely on the signer's good sense."""
    envelope = dsse.sign(data, signature.PAYLOAD_TYPE, KEY)
    signed = msgspec.json.decode(signature.sign({"model.onnx": "ab" * 32}, "x-1.0.0", KEY))
    signed["dsseEnvelope"] = msgspec.to_builtins(envelope)
    stated = signature.verify(canonical_json(signed), [KEY.public], what="fuzzed")
    for name, digest in stated.digests.items():
        assert name
        identity.digest(digest)


def _assignment(data: bytes) -> None:
    envelope = dsse.sign(data, assignment.PAYLOAD_TYPE, KEY, keyid=KEY.public.id)
    read = assignment.verify(
        canonical_json(envelope), [KEY.public], device="device-1", revision_floor=3
    )
    assert read.device == "device-1"
    assert read.revision >= 3


def _baseline(data: bytes) -> None:
    read = baseline.Baseline.decode(data)
    assert baseline.Baseline.decode(read.encode()) == read


def _dataset(data: bytes) -> None:
    read = dataset.DatasetProfile.decode(data)
    assert dataset.DatasetProfile.decode(read.encode()) == read
    # Whatever was accepted can be shown and added up.
    assert read._repr_html_()
    assert read.merge(read).rows == 2 * read.rows


def _window(data: bytes) -> None:
    read = window.decode(data)
    assert window.decode(window.encode(read)) == read
    assert flat.decode(data).window() == read


def _window_fields(data: bytes) -> None:
    """Compress the bytes as a window's fields are."""
    _window(fields.wrap("ab" * 32, data, level=1))


def _codec(kind: type[messages.UpMessage]) -> Callable[[bytes], None]:
    def run(data: bytes) -> None:
        read = codec.decode(kind, data)
        assert codec.decode(kind, codec.encode(read)) == read

    return run


def _npy(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array(out, array, version=(1, 0), allow_pickle=False)
    return out.getvalue()


_VECTORS = {
    "input_names": _npy(np.array(["x"])),
    "output_names": _npy(np.array(["y"])),
    "tolerance": _npy(np.array([1e-4, 1e-5])),
    "input_0": _npy(np.array([["a"], ["bc"]])),
    "output_0": _npy(np.zeros((2, 1), np.float32)),
}
_READ = bundle.open_bundle(io.BytesIO(BUNDLE), [PUBLISHER])
_SIGNED = _READ.digests
_SIGNATURE = archive.Archive(io.BytesIO(BUNDLE)).read(signature.FILE)
_PARITY = parity.encode(
    parity.ParityVectors(
        {"x": np.zeros((2, 1), np.float32), "w": np.array([["a"], ["bc"]], object)},
        {"y": np.zeros((2, 1), np.float32)},
        1e-4,
        1e-5,
    )
)
_STATEMENT = base64.b64decode(msgspec.json.decode(_SIGNATURE)["dsseEnvelope"]["payload"])
_WINDOW_MESSAGE = messages.WindowMessage(
    device="device-1",
    epoch="0123456789abcdef",
    seq=1,
    slot="main",
    name="flights",
    version="1.0.0",
    digest="ab" * 32,
    profile_id="cd" * 32,
    start_ms=0,
    end_ms=1,
    rows=1,
    payload=WINDOW,
)
_EVENT = messages.EventMessage(
    device="device-1", epoch="0123456789abcdef", seq=2, at_ms=1, kind="drift", detail={"psi": "0.3"}
)
_ASSIGNED = canonical_json(
    assignment.Assignment(
        device="device-1",
        revision=4,
        slots={"main": assignment.SlotAssignment("bundles/x/x-1.0.0.whim", "ab" * 32, 5)},
    )
)

TARGETS: dict[str, Target] = {
    "archive": Target(_archive, (BundleError,), (BUNDLE, _PARITY)),
    "bundle": Target(_bundle, (BundleError, TrustError), (BUNDLE,)),
    "inspect": Target(_inspect, (BundleError,), (BUNDLE,)),
    "manifest": Target(_manifest, (WhimbrelError,), (_READ.read(bundle.MANIFEST),)),
    "parity": Target(_parity, (BundleError,), (_PARITY,)),
    "parity-member": Target(
        _parity_member, (BundleError,), (_VECTORS["input_0"], _VECTORS["output_0"])
    ),
    "signature": Target(_signature, (TrustError,), (_SIGNATURE,)),
    "statement": Target(_statement, (TrustError, BundleError), (_STATEMENT,)),
    "assignment": Target(_assignment, (TrustError, WireError, WhimbrelError), (_ASSIGNED,)),
    "baseline": Target(_baseline, (ProfileError,), (BASELINE, DESCRIBED, REGRESSION)),
    "dataset": Target(_dataset, (ProfileError,), (PROFILE,)),
    "window": Target(_window, (ProfileError,), (WINDOW, REGRESSION_WINDOW)),
    "window-fields": Target(
        _window_fields,
        (ProfileError,),
        (fields.unwrap(WINDOW)[1], fields.unwrap(REGRESSION_WINDOW)[1]),
    ),
    "message": Target(
        _codec(messages.WindowMessage), (WireError,), (codec.encode(_WINDOW_MESSAGE),)
    ),
    "event": Target(_codec(messages.EventMessage), (WireError,), (codec.encode(_EVENT),)),
}
