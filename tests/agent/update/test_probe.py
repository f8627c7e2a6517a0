"""The probe: what does not hold is refused by name, and a crash is only an answer."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.support.models import MadeBundle, build_bundle, logistic
from whimbrel_agent.update import child
from whimbrel_agent.update.messages import Answer, ProbeRequest, Proven, PublisherKey
from whimbrel_core.bundle import archive, bundle, parity
from whimbrel_core.bundle.manifest import Requirements
from whimbrel_core.signing.keys import PrivateKey

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> MadeBundle:
    return build_bundle(tmp_path_factory.mktemp("bundles"))


def probe(
    made: MadeBundle, *, path: Path | None = None, models: tuple[str, ...] = ("*",), **more: object
) -> Answer:
    settings: dict[str, object] = {
        "digest": made.digest if path is None else "",
        "keys": (PublisherKey(made.pem, models),),
        **more,
    }
    request = ProbeRequest(path=str(path or made.path), **settings)  # type: ignore[arg-type]
    return asyncio.run(
        child.run("whimbrel_agent.update.probe", request, timeout_s=60, what="probe")
    )


def refusal(answer: Answer) -> str:
    assert answer.failure is not None, answer
    assert answer.failure.message
    return answer.failure.code


def test_a_bundle_that_answers_as_its_source_did_is_proven_and_measured(made: MadeBundle) -> None:
    proven = probe(made).proven
    assert isinstance(proven, Proven)
    assert (proven.name, proven.version, proven.release) == ("churn", "1.0.0", 1)
    assert proven.parity_rows == 16
    assert proven.latency_us > 0
    assert 0 < proven.memory_bytes < 200e6


def test_a_key_signs_only_the_models_that_it_is_trusted_for(made: MadeBundle) -> None:
    assert refusal(probe(made, models=("flights",))) == "trust.scope"
    assert probe(made, models=("churn",)).proven is not None
    stranger = PrivateKey.generate().public.pem
    assert refusal(probe(made, keys=(PublisherKey(stranger),))) == "trust.signature"
    assert refusal(probe(made, keys=())) == "trust.signature"


def test_a_model_that_answers_otherwise_than_it_should_is_refused(
    made: MadeBundle, tmp_path: Path
) -> None:
    """A validly signed bundle whose expected answers are not what the model gives here."""
    with made.path.open("rb") as file:
        opened = bundle.open_bundle(file, [made.key.public])
        files = {name: opened.read(name) for name in opened.names}
    vectors = parity.decode(files["parity.npz"])
    wrong = {name: np.array(array) for name, array in vectors.outputs.items()}
    wrong["probabilities"] = wrong["probabilities"] + np.float32(0.01)
    files["parity.npz"] = parity.encode(vectors._replace(outputs=wrong))
    path = tmp_path / "wrong.whim"
    path.write_bytes(bundle.build(files, made.key))
    answer = probe(made, path=path)
    assert refusal(answer) == "parity.differs"
    assert answer.failure is not None
    assert "probabilities" in answer.failure.message
    assert not answer.failure.retryable


def test_tampered_and_truncated_bundles_are_refused(made: MadeBundle, tmp_path: Path) -> None:
    data = made.path.read_bytes()
    cut = tmp_path / "cut.whim"
    cut.write_bytes(data[: len(data) // 2])
    assert refusal(probe(made, path=cut)) == "bundle.archive"
    with made.path.open("rb") as file:
        source = archive.Archive(file)
        files = {name: source.read(name) for name in source.names}
    files["model.onnx"] = files["model.onnx"][:-1] + b"\x07"
    swapped = tmp_path / "swapped.whim"
    with swapped.open("wb") as target:
        archive.write(target, files)
    assert refusal(probe(made, path=swapped)) == "trust.digest"


def test_bundles_for_other_runtimes_classes_and_larger_devices_are_refused(
    tmp_path: Path,
) -> None:
    newer = build_bundle(tmp_path, requirements=Requirements(onnxruntime="99.0"))
    assert refusal(probe(newer)) == "compatibility.runtime"
    large = build_bundle(tmp_path, version="2.0.0", requirements=Requirements(memory_bytes=1 << 40))
    assert refusal(probe(large, memory_available_bytes=1 << 30)) == "compatibility.memory"
    till = build_bundle(
        tmp_path, version="3.0.0", requirements=Requirements(device_classes=("till",))
    )
    assert refusal(probe(till, device_classes=("pump",))) == "compatibility.class"


def test_a_model_that_cannot_be_loaded_is_refused(tmp_path: Path) -> None:
    good = logistic()
    made = build_bundle(tmp_path, good)
    with made.path.open("rb") as file:
        opened = bundle.open_bundle(file, [made.key.public])
        files = {name: opened.read(name) for name in opened.names}
    files["model.onnx"] = dataclasses.replace(good, model=b"no model").model
    path = tmp_path / "no-model.whim"
    path.write_bytes(bundle.build(files, made.key))
    assert refusal(probe(made, path=path)) == "compatibility.runtime"


def test_the_probe_lives_within_its_memory(made: MadeBundle) -> None:
    answer = probe(made, memory_bytes=64 << 20)
    assert refusal(answer) in {"probe.memory", "probe.crash", "compatibility.runtime"}


@pytest.mark.parametrize(
    ("fault", "code", "sentence"),
    [
        ("segfault", "probe.crash", "SIGSEGV"),
        ("hang", "probe.timeout", "did not end within 1 s"),
        ("nonsense", "probe.crash", "cannot be read"),
        ("exit", "probe.crash", "it went wrong"),
        ("memory", "probe.memory", "ran out of the memory"),
    ],
    ids=["segfault", "hang", "nonsense", "exit", "memory"],
)
def test_a_process_that_goes_wrong_is_a_named_failure(fault: str, code: str, sentence: str) -> None:
    began = time.monotonic()
    answer = asyncio.run(
        child.run(
            "tests.support.faults",
            ProbeRequest(path=fault, digest="", keys=()),
            timeout_s=1.0 if fault == "hang" else 30.0,
            what="probe",
        )
    )
    assert refusal(answer) == code
    assert answer.failure is not None
    assert sentence in answer.failure.message
    assert time.monotonic() - began < 20
