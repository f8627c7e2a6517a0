"""Predictions that wait for labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from whimbrel_agent.telemetry.labels import (
    Prediction,
    PredictionTable,
    other_tables,
    table_path,
)

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

PREDICTIONS = st.builds(
    Prediction,
    st.integers(0, 1 << 45),
    st.floats(allow_nan=False),
    st.none() | st.integers(0, 19),
    st.none() | st.integers(0, 1023),
    st.integers(0, (1 << 16) - 1),
)


@given(st.lists(st.tuples(st.text(min_size=1, max_size=4), PREDICTIONS), max_size=40))
def test_what_is_remembered_is_taken_once(
    tmp_path_factory: pytest.TempPathFactory, entries: list[tuple[str, Prediction]]
) -> None:
    path = tmp_path_factory.mktemp("labels") / "a.labels"
    table = PredictionTable(path, capacity=4096)
    for name, prediction in entries:
        table.remember(name, prediction)
    table.close()
    again = PredictionTable(path, capacity=4096)
    for name, prediction in dict(entries).items():
        assert again.take(name) == prediction
        assert again.take(name) is None
    again.close()


def test_a_full_table_forgets_its_oldest(tmp_path: Path) -> None:
    table = PredictionTable(tmp_path / "a.labels", capacity=64)
    for i in range(1000):
        table.remember(f"id-{i}", Prediction(i, 0.0, None, 1))
    found = [i for i in range(1000) if table.take(f"id-{i}") is not None]
    assert len(found) <= 64
    assert min(found) > 700, "a bucket may be fuller than another, but not by much"
    table.close()


def test_two_workers_share_one_table(tmp_path: Path) -> None:
    old = PredictionTable(tmp_path / "a.labels", capacity=64)
    new = PredictionTable(tmp_path / "a.labels", capacity=128)
    old.remember("mine", Prediction(5, 0.0, 3, 1))
    assert new.take("mine") == Prediction(5, 0.0, 3, 1)
    assert old.take("mine") is None
    old.close()
    new.close()


def test_a_file_that_is_no_table_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.labels"
    path.write_bytes(b"something else entirely")
    table = PredictionTable(path, capacity=64)
    table.remember("mine", Prediction(5, 0.0, 3, 1))
    assert table.take("mine") is not None
    table.close()


def test_tables_of_other_slots_are_not_this_slots(tmp_path: Path) -> None:
    mine, older = "a" * 64, "b" * 64
    for slot, digest in (("churn", mine), ("churn", older), ("churn-next", older)):
        PredictionTable(table_path(tmp_path, slot, digest), capacity=8).close()
    assert other_tables(tmp_path, "churn", mine) == [table_path(tmp_path, "churn", older)]
