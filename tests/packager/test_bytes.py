"""Models of bytes: images as cameras give them, and columns of few bits; packed and served."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import onnx
import pytest

import whimbrel_packager
from tests.packager.corpus.onnx_cases import BYTES_WIDE, PIXELS, SMALL, bytewise
from tests.packager.proving import InProcess
from tests.support.worker import FakeControl
from whimbrel_agent import Model
from whimbrel_agent.channel import SlotSpec
from whimbrel_agent.serving import engine
from whimbrel_core.bundle import bundle as bundles
from whimbrel_core.bundle import parity
from whimbrel_core.bundle.datatypes import DTYPES, RANGES
from whimbrel_core.errors import InputError, RequestError
from whimbrel_core.profile.counting.accumulator import Accumulator
from whimbrel_core.profile.descriptors import Image
from whimbrel_core.profile.window import merge
from whimbrel_core.signing.keys import PublicKey
from whimbrel_packager import feeds, frame
from whimbrel_packager.conversion import corpus as corpora
from whimbrel_packager.signing import keyfiles
from whimbrel_packager.sources import Options

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from whimbrel_core.bundle.manifest import Datatype

    Array = np.ndarray[Any, Any]


class Packed(NamedTuple):
    done: whimbrel_packager.PackResult
    pem: str


def packed(folder: Path, model: object, data: object, **settings: object) -> Packed:
    if not (folder / "keys").exists():
        keyfiles.create(folder / "keys", "bundle")
    with InProcess():
        done = whimbrel_packager.pack(
            model, data, name="parts", version="1.0.0", key=folder / "keys/bundle.pem", out=folder,
            **settings,  # type: ignore[arg-type]
        )  # fmt: skip
    return Packed(done, (folder / "keys/bundle.pub").read_text())


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Packed:
    folder = tmp_path_factory.mktemp("images")
    onnx.save(bytewise(), folder / "parts.onnx")
    options = Options(output="value")
    return packed(folder, folder / "parts.onnx", {"pixels": PIXELS}, options=options)


def opened(images: Packed) -> engine.Engine:
    return engine.load(images.done.path, [images.pem])


def test_an_image_of_bytes_is_packed_as_such_proven_with_bytes_and_described_from_0_to_255(
    images: Packed,
) -> None:
    (tensor,) = images.done.manifest.inputs
    assert (tensor.name, tensor.datatype, tensor.shape) == ("pixels", "UINT8", (-1, 6, 6, 3))
    loaded = opened(images)
    (described,) = loaded.baseline.layout.descriptors
    assert isinstance(described, Image)
    assert (described.layout, described.range) == ("NHWC", (0, 255))
    with images.done.path.open("rb") as file:
        bundle = bundles.open_bundle(file, [PublicKey.from_pem(images.pem)])
        vectors = parity.decode(bundle.read(bundles.PARITY))
    proven = vectors.inputs["pixels"]
    assert proven.dtype == np.uint8
    assert (proven.min(), proven.max()) == (0, 255)

    def run(feeds: Mapping[str, Array]) -> dict[str, Array]:
        return dict(zip(loaded.output_names, loaded.run(feeds), strict=True))

    assert not parity.check(vectors, run).failures


def test_a_worker_serves_bytes_refuses_what_is_none_and_counts_them_as_they_were_described(
    images: Packed, tmp_path: Path
) -> None:
    control = FakeControl(tmp_path)
    loaded = opened(images)

    def asked(values: object, n: int) -> tuple[int, Any]:
        item = {"name": "pixels", "shape": [n, 6, 6, 3], "datatype": "UINT8", "data": values}
        return control.infer("parts", {"inputs": [item]})

    try:
        digest, path = images.done.digest, str(images.done.path)
        worker = control.start_worker(SlotSpec("parts", digest, path, (images.pem,)))
        status, answer = asked(PIXELS.ravel().tolist(), len(PIXELS))
        assert status == 200
        (expected,) = loaded.run({"pixels": PIXELS})
        assert np.allclose(np.reshape(answer["outputs"][0]["data"], expected.shape), expected)
        status, nested = asked(PIXELS[:1].tolist(), 1)
        assert (status, nested["outputs"][0]["data"]) == (200, answer["outputs"][0]["data"][:3])
        told: dict[Any, str] = {None: "null", 2**70: "a number beyond 64 bits"}
        for wrong in (256, -1, 1.5, None, 2**70):
            values: list[Any] = PIXELS[:2].ravel().tolist()
            values[111] = wrong
            status, refused = asked(values, 2)
            shown = told.get(wrong, str(wrong))
            assert (status, refused["code"]) == (400, "request.data")
            assert refused["error"] == f"input 'pixels', row 1 (data[111]): {shown} is no UINT8"
            assert refused["hint"] == "UINT8 data are whole numbers from 0 to 255"
        worker.drain()
        assert control.sink is not None
        assert control.sink.wait_for(lambda: control.sink is not None and control.sink.rows == 41)
        window = functools.reduce(merge, control.sink.decoded("parts"))
    finally:
        control.close()
    directly = Accumulator(loaded.baseline)
    for some in (PIXELS, PIXELS[:1]):
        directly.update({"pixels": some, "value": loaded.run({"pixels": some})[0]})
    here = directly.window(0, 1)
    assert [one.cells for one in window.features] == [one.cells for one in here.features]


def test_columns_of_few_bits_are_packed_counted_and_asked_in_an_application(
    tmp_path: Path,
) -> None:
    kinds: dict[str, Datatype] = {"a": "UINT8", "b": "INT8", "c": "UINT16", "d": "INT16"}
    rng = np.random.default_rng(0)
    data = {name: rng.integers(*RANGES[kind], 300) for name, kind in kinds.items()}
    done, pem = packed(tmp_path, SMALL, data, options=Options(task="regression"))
    assert {one.name: one.datatype for one in done.manifest.inputs} == kinds
    first = {name: values[:3] for name, values in data.items()}
    with Model(done.path, keys=[pem]) as model:
        made = model.predict(first)["value"]
        assert made.ravel().tolist() == [sum(row) for row in zip(*first.values(), strict=True)]
        for name, kind in kinds.items():
            for beyond in (RANGES[kind][0] - 1, RANGES[kind][1] + 1):
                with pytest.raises(RequestError, match=f"{name!r}, row 1: {beyond} is no {kind}"):
                    model.predict({**first, name: np.array([0, beyond, 0])})
    layout = engine.load(done.path, [pem]).baseline.layout
    assert [one.name for one in layout.features if one.role == "input"] == list(kinds)


def test_a_matrix_of_bytes_is_one_input_of_them(tmp_path: Path) -> None:
    data = PIXELS[:, 0, 0, :1].repeat(4, axis=1)
    done, _ = packed(tmp_path, BYTES_WIDE, data, options=Options(output="value"))
    (tensor,) = done.manifest.inputs
    assert (tensor.datatype, tensor.shape) == ("UINT8", (-1, 4))


def test_a_corpus_holds_what_a_request_can_hold_up_to_both_ends() -> None:
    column, block = np.arange(20), PIXELS[:20]
    data = frame.Frame({"column": column, "pixels": block})
    limits = {"column": RANGES["INT8"], "pixels": RANGES["UINT8"]}
    made = corpora.make(data, [], tree_only=False, magnitudes=data, limits=limits).frame
    assert (made.columns["column"].min(), made.columns["column"].max()) == (-128, 127)
    assert made.columns["pixels"].dtype == np.uint8
    whole = made.columns["pixels"].reshape(made.rows, -1)
    assert {0, 255} <= set(whole.min(axis=1)) & set(whole.max(axis=1))


@pytest.mark.parametrize(
    ("column", "kind", "says"),
    [
        ([0, 256], "UINT8", "holds 256, and the model takes UINT8: whole numbers from 0 to 255"),
        ([-1, 0], "UINT16", "holds -1, and the model takes UINT16"),
        ([1.0, 0.5], "INT32", "holds 0.5, and the model takes INT32"),
        ([1.0, np.nan], "INT64", "holds a missing number, and the model takes INT64"),
        ([1.0, np.inf], "INT64", "holds inf, and the model takes INT64"),
        ([1.0, 2.0**63], "INT64", "holds 9.22"),
    ],
)
def test_reference_data_that_an_input_cannot_hold_are_refused_by_column_and_value(
    column: list[float], kind: str, says: str
) -> None:
    data = frame.of({"x": np.array(column)})
    for matrix in (None, "x"):
        with pytest.raises(InputError, match="column 'x' of the reference data") as refused:
            feeds.of(data, [("x", kind, (-1, 1))], matrix)
        assert says in refused.value.message
    exact = frame.of({"x": np.array([0.0, 1.0])})
    (fed,) = feeds.of(exact, [("x", kind, (-1,))], None).values()
    assert (fed.dtype, fed.tolist()) == (DTYPES[kind], [0, 1])
