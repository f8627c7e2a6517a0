"""Words that a category does not know: met, and told sealed."""

from __future__ import annotations

from base64 import b64decode

import msgspec
import numpy as np

from whimbrel_agent.telemetry.rows import RowWriter
from whimbrel_agent.telemetry.words import NewWords
from whimbrel_core.profile.counting.accumulator import Accumulator
from whimbrel_core.profile.feature import Feature
from whimbrel_core.profile.layout import Layout
from whimbrel_core.profile.privacy.words import Sealed, reveal

LAYOUT = Layout(
    task="regression",
    features=(
        Feature(name="x", kind="numeric", role="input", tensor="x", edges=(0.0,)),
        Feature(
            name="carrier", kind="categorical", role="input", tensor="carrier",
            vocabulary=("UA", "DL"),
        ),
    ),
)  # fmt: skip


def told(words: NewWords) -> list[Sealed]:
    return [
        sealed
        for detail in words.take()
        for sealed in msgspec.msgpack.decode(b64decode(detail["sealed"]), type=list[Sealed])
    ]


def test_words_of_batches_and_of_single_rows_are_told_once() -> None:
    words = NewWords(LAYOUT, device="edge-1", k=1)
    words.look({"carrier": np.array([["UA"], ["ZZ"], ["ZZ"], [None]], object)})
    writer = RowWriter(LAYOUT, 2, [("x", 1), ("carrier", 1)], unknown=words.meet)
    accumulator = Accumulator(LAYOUT)
    for word in ("DL", "QQ", b"ZZ", None):
        assert writer.write(accumulator, [1.0, word], None)
    assert accumulator.window(0, 1).features[1].cells == (0, 1, 2)
    assert [reveal([one], k=1) for one in told(words)] == ["ZZ", "QQ"]
    words.meet(1, "ZZ")
    assert told(words) == []


def test_few_words_are_told_at_once_and_a_text_is_no_category() -> None:
    words = NewWords(LAYOUT, device="edge-1", k=1)
    rows = np.array([f"word {n}" for n in range(500)], object)
    words.look({"carrier": rows})
    assert len(told(words)) == 8
    for _ in range(100):
        words.look({"carrier": rows})
        words.take()
    assert len(words._told) <= 256


def test_a_device_tells_nothing_where_the_bundle_or_its_namelessness_says_so() -> None:
    for silent in (NewWords(LAYOUT, device="edge-1", k=0), NewWords(LAYOUT, device="", k=5)):
        silent.meet(1, "ZZ")
        silent.look({"carrier": np.array(["ZZ"], object)})
        assert silent.take() == []
