from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whimbrel_core.bundle import parity
from whimbrel_core.bundle.parity import ParityVectors
from whimbrel_core.errors import BundleError


def vectors() -> ParityVectors:
    return ParityVectors(
        inputs={
            "temp": np.array([[1.5], [np.nan], [-np.inf]], dtype=np.float32),
            "carrier": np.array([["AA"], [""], ["Ünïcode 🐦"]], dtype=object),
        },
        outputs={
            "label": np.array([0, 1, 1], dtype=np.int64),
            "probabilities": np.array([[0.9, 0.1], [0.4, 0.6], [0, 1]], dtype=np.float32),
        },
        rtol=1e-4,
        atol=1e-5,
    )


def test_vectors_survive_the_round_trip_and_equal_vectors_are_equal_bytes() -> None:
    data = parity.encode(vectors())
    back = parity.decode(data)
    assert data == parity.encode(vectors())
    assert back.rtol == 1e-4
    assert back.atol == 1e-5
    assert back.rows == 3
    np.testing.assert_array_equal(back.inputs["temp"], vectors().inputs["temp"])
    assert back.inputs["carrier"].dtype == object
    assert back.inputs["carrier"].tolist() == [["AA"], [""], ["Ünïcode 🐦"]]
    assert all(type(word) is str for word in back.inputs["carrier"].ravel())
    np.testing.assert_array_equal(back.outputs["probabilities"], vectors().outputs["probabilities"])


def test_any_numpy_opens_the_file_without_pickle() -> None:
    with np.load(io.BytesIO(parity.encode(vectors())), allow_pickle=False) as opened:
        assert opened["input_names"].tolist() == ["temp", "carrier"]
        assert opened["output_1"].shape == (3, 2)


def test_a_model_that_answers_as_expected_passes_and_the_first_row_runs_alone() -> None:
    made = parity.decode(parity.encode(vectors()))
    batches = []

    def run(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        batches.append(len(inputs["temp"]))
        return {name: array[: batches[-1]] for name, array in made.outputs.items()}

    result = parity.check(made, run)
    assert result == parity.ParityResult(rows=3, max_abs_error=0.0)
    assert batches == [3, 1]


def test_a_difference_beyond_tolerance_is_named_with_its_place() -> None:
    made = vectors()
    wrong = {**made.outputs, "probabilities": made.outputs["probabilities"].copy()}
    wrong["probabilities"][1, 1] += 0.01
    result = parity.check(made, lambda i: {k: v[: len(i["temp"])] for k, v in wrong.items()})
    assert result.max_abs_error == pytest.approx(0.01, rel=1e-3)
    assert result.failures == (
        (
            "output 'probabilities' differs in 1 of 6 values; worst at row 1, column 1: "
            "expected 0.6, got 0.61"
        ),
    )


def test_wrong_labels_missing_outputs_and_other_shapes_are_failures() -> None:
    made = vectors()
    flipped = {"label": np.array([1, 1, 1]), "probabilities": made.outputs["probabilities"][:2]}
    sentences = parity.check(made, lambda _: flipped).failures
    assert "output 'label' differs in 1 of 3 values; worst at row 0: expected 0, got 1" in sentences
    assert "output 'probabilities' has shape (2, 2), expected (3, 2)" in sentences
    assert "output 'label' is missing" in parity.check(made, lambda _: {}).failures


def test_nan_and_infinity_agree_only_with_themselves() -> None:
    expected = np.array([np.nan, np.inf, 1.0])
    assert parity.compare("y", expected, expected.copy(), 0, 0) == (0.0, ())
    for wrong in ([0.0, np.inf, 1], [np.nan, -np.inf, 1], [np.nan, np.inf, np.nan]):
        error, found = parity.compare("y", expected, np.array(wrong), 1, 1)
        assert error == np.inf
        assert len(found) == 1


def test_string_labels_are_compared_whatever_their_array_type() -> None:
    expected = np.array(["late", "early"])
    assert parity.compare("y", expected, np.array(["late", "early"], dtype=object), 0, 0)[1] == ()
    assert parity.compare("y", expected, np.array([b"late", b"on time"], dtype=object), 0, 0)[1]


@given(data=st.data())
def test_no_bytes_crash_the_reader(data: st.DataObject) -> None:
    good = parity.encode(vectors())
    how = data.draw(st.sampled_from(["cut", "flip", "random"]))
    if how == "cut":
        bad = good[: data.draw(st.integers(0, len(good) - 1))]
    elif how == "flip":
        at = data.draw(st.integers(0, len(good) - 1))
        bad = good[:at] + bytes([good[at] ^ data.draw(st.integers(1, 255))]) + good[at + 1 :]
    else:
        bad = data.draw(st.binary(max_size=300))
    try:
        parity.decode(bad)
    except BundleError:
        pass
    else:
        assert how == "flip"  # in a byte that no reader looks at


@pytest.mark.parametrize(
    ("member", "array"),
    [
        ("input_0", np.zeros((3, 1), dtype="<c16")),
        ("input_0", np.zeros((2, 1), dtype="<f4")),
        ("output_names", np.array(["label", "label"])),
        ("tolerance", np.array([np.nan, 0.0])),
    ],
    ids=["forbidden type", "unequal rows", "name twice", "tolerance not a number"],
)
def test_a_well_formed_npz_with_forbidden_content_is_refused(
    member: str, array: np.ndarray
) -> None:
    with pytest.raises(BundleError, match=r"parity\.npz"):
        parity.decode(replaced(member, npy(array)))


def test_a_pickle_and_a_huge_stated_shape_are_refused_before_anything_is_made_of_them() -> None:
    pickled = io.BytesIO()
    np.save(pickled, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(BundleError, match="not that of an array"):
        parity.decode(replaced("input_0", pickled.getvalue()))
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (9999999999999, 1), }\n"
    stated = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + b"\0" * 12
    with pytest.raises(BundleError, match="over 12 bytes"):
        parity.decode(replaced("input_0", stated))


def npy(array: np.ndarray) -> bytes:
    target = io.BytesIO()
    np.save(target, array, allow_pickle=False)
    return target.getvalue()


def replaced(member: str, content: bytes) -> bytes:
    out = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(parity.encode(vectors()))) as old,
        zipfile.ZipFile(out, "w") as new,
    ):
        for info in old.infolist():
            name = info.filename
            new.writestr(name, content if name == f"{member}.npy" else old.read(name))
    return out.getvalue()
