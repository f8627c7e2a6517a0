"""One tree of errors, with stable codes and exit codes."""

from __future__ import annotations

import pickle

import pytest

from whimbrel_core import errors


def _tree(root: type[errors.WhimbrelError]) -> list[type[errors.WhimbrelError]]:
    return [root, *(leaf for child in root.__subclasses__() for leaf in _tree(child))]


# Other parts add kinds of their own where they need more than a sentence; they stay in a process.
LOCAL = [kind for kind in _tree(errors.WhimbrelError) if kind.__module__ == errors.__name__]


@pytest.mark.parametrize("kind", LOCAL, ids=lambda kind: kind.__name__)
def test_an_error_keeps_all_it_says_across_a_process_boundary(
    kind: type[errors.WhimbrelError],
) -> None:
    before = kind("model flights: refused", hint="pack it again", code="x.y")
    after = pickle.loads(pickle.dumps(before))  # noqa: S301 - our own bytes
    assert type(after) is kind
    assert after.as_dict() == before.as_dict()


def test_the_drawing_at_the_top_of_the_file_names_every_branch_of_the_tree() -> None:
    drawing = errors.__doc__ or ""
    assert [kind.__name__ for kind in LOCAL if kind.__name__ not in drawing] == []


def test_exit_codes_tell_families_apart() -> None:
    families = {kind.exit_code for kind in LOCAL if kind.__base__ is errors.WhimbrelError}
    assert families == {2, 3, 4, 5, 6, 7}


def test_a_failed_gate_has_an_exit_code_of_its_own_and_prints_its_report() -> None:
    plain = errors.GateError("1 of 2 gates does not hold")
    assert plain.exit_code == 8
    assert "report" not in plain.as_dict()
    told = errors.GateError("1 of 2 gates does not hold", report={"held": False})
    assert told.as_dict()["report"] == {"held": False}
