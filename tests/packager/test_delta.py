"""Deltas: exact, small where something can be had, refused or useless where they do not fit."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import pytest
import zstandard
from onnx import TensorProto, helper, numpy_helper

from whimbrel_agent.update import delta as agents
from whimbrel_core.bundle import archive, difference
from whimbrel_core.errors import InputError
from whimbrel_packager.repository import delta

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SEED = 11


def network(**weights: NDArray[np.generic]) -> bytes:
    """A bundle's archive with a model of these tensors."""
    tensors = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(
        [helper.make_node("Identity", [tensors[0].name], ["y"])],
        "main",
        [],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        tensors,
    )
    out = io.BytesIO()
    model = helper.make_model(graph).SerializeToString(deterministic=True)
    archive.write(out, {"model.onnx": model, "manifest.json": b"{}", "card.md": b"# A model\n"})
    return out.getvalue()


def tuned(kind: str) -> tuple[bytes, bytes]:
    """A network before and after it was trained a little more."""
    rng = np.random.default_rng(SEED)
    old = rng.normal(size=(200, 300)).astype(np.float32)
    new = old * (1 + rng.normal(size=old.shape) * 3e-3).astype(np.float32)
    before, after = (
        np.round(w * 25).clip(-127, 127).astype(np.int8) if kind == "int8" else w
        for w in (old, new)
    )
    bias = rng.normal(size=300).astype(np.float32)
    return network(weights=before, bias=bias), network(weights=after, bias=bias)


def test_a_network_that_was_trained_a_little_more_is_its_difference() -> None:
    old, new = tuned("int8")
    made = delta.best_of(old, new)
    assert made.spans == 2
    assert delta.decode(old, made.data, length=len(new)) == new
    plain = zstandard.ZstdCompressor(
        level=19,
        dict_data=zstandard.ZstdCompressionDict(old, dict_type=zstandard.DICT_TYPE_RAWCONTENT),
    ).compress(new)
    assert len(made.data) < 0.065 * len(new)
    assert len(made.data) < 0.7 * len(plain)


def test_of_float32_weights_a_quarter_is_saved_where_a_dictionary_finds_nothing() -> None:
    old, new = tuned("float32")
    made = delta.encode(old, new)
    assert made is not None
    assert delta.decode(old, made, length=len(new)) == new


def test_what_has_no_tensors_in_common_needs_no_differences() -> None:
    rng = np.random.default_rng(SEED)
    rows = rng.normal(size=(400, 50)).astype(np.float32)
    old, new = network(a=rows[:380]), network(b=rows)
    made = delta.best_of(old, new)
    assert made.spans == 0
    assert len(made.data) < 0.1 * len(new)
    assert delta.decode(old, made.data, length=len(new)) == new


def test_a_delta_that_saves_next_to_nothing_is_none() -> None:
    rng = np.random.default_rng(SEED)
    old, new = (network(w=rng.normal(size=5000).astype(np.float32)) for _ in "ab")
    assert delta.encode(old, new) is None
    assert delta.encode(b"", rng.bytes(5000)) is None


@pytest.mark.parametrize("kind", ["int8", "float32"])
def test_an_agent_rebuilds_what_the_packager_made(tmp_path: Path, kind: str) -> None:
    old, new = tuned(kind)
    files = [tmp_path / name for name in ("old", "delta", "new")]
    files[0].write_bytes(old)
    files[1].write_bytes(delta.best_of(old, new).data)
    agents.rebuild(*files, length=len(new))
    assert files[2].read_bytes() == new


def test_an_older_agent_makes_other_bytes_which_the_digest_tells(tmp_path: Path) -> None:
    old, new = tuned("int8")
    made = delta.best_of(old, new)
    assert made.spans
    dictionary = zstandard.ZstdCompressionDict(old, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    reader = zstandard.ZstdDecompressor(dict_data=dictionary, max_window_size=1 << 30)
    assert b"".join(reader.read_to_iter(io.BytesIO(made.data))) != new


def test_another_predecessor_or_a_changed_byte_never_makes_the_new_file(tmp_path: Path) -> None:
    old, new = tuned("int8")
    data = delta.best_of(old, new).data
    wrong = bytearray(old)
    wrong[len(old) // 2] ^= 1
    rng = np.random.default_rng(SEED)
    spoilt = [(bytes(wrong), data), (old[:-100], data), (b"", data)]
    spoilt += [
        (old, data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :])
        for at in rng.integers(0, len(data), 40)
    ]
    for before, changed in spoilt:
        files = [tmp_path / name for name in ("old", "delta", "new")]
        files[0].write_bytes(before)
        files[1].write_bytes(changed)
        try:
            agents.rebuild(*files, length=len(new))
            assert files[2].read_bytes() != new or (before, changed) == (old, data)
        except InputError:
            pass
    with pytest.raises(InputError):
        delta.decode(b"", difference.header(delta.spans_of(old, new)) + b"x", length=len(new))
