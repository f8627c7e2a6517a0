from __future__ import annotations

import time
from typing import TYPE_CHECKING

import joblib
import numpy as np
import psutil
import pytest
from sklearn.ensemble import RandomForestClassifier

from tests.packager import double_child, misbehaving_child
from whimbrel_core.errors import ConversionError, ParityError
from whimbrel_packager.conversion import child

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def run(
    folder: Path, what: str, limits: child.Limits | None = None, stages: list[str] | None = None
) -> None:
    request = misbehaving_child.Request(what)
    module = "tests.packager.misbehaving_child"
    running = child.start(module, folder, request, limits or child.Limits(timeout_s=30))
    running.wait("forest 1.0.0", None if stages is None else stages.append)


def test_a_converter_that_never_returns_is_stopped_and_named(tmp_path: Path) -> None:
    # sklearn-onnx #1253: a forest that has seen NaN, converted with float64 inputs.
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 4))
    x[rng.random(x.shape) < 0.3] = np.nan
    # Splits between missing and not have an infinite threshold.
    model = RandomForestClassifier(10, max_depth=6, random_state=0).fit(x, np.isnan(x[:, 0]))
    joblib.dump(model, tmp_path / "model.joblib")
    request = double_child.Request(str(tmp_path / "model.joblib"), 4)
    running = child.start("tests.packager.double_child", tmp_path, request, child.Limits(60))

    def converting(stage: str) -> None:
        if stage == "converting":  # what it took to import is not the point
            running._deadline = time.monotonic() + 2

    with pytest.raises(ConversionError) as caught:
        running.wait("RandomForestClassifier", converting)
    assert caught.value.code == "conversion.timeout"
    assert caught.value.message == (
        "RandomForestClassifier: converting took longer than 60 s and was stopped"
    )
    assert "#1253" in str(caught.value.hint)
    assert not psutil.pid_exists(running._process.pid)


def test_a_crash_in_native_code_is_named_with_the_signal(tmp_path: Path) -> None:
    with pytest.raises(
        ConversionError, match="misbehaving crashed: the process was ended by SIGSEGV"
    ):
        run(tmp_path, "crash")


def test_memory_beyond_the_limit_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="needs more than the 1024 MiB") as caught:
        run(tmp_path, "memory", child.Limits(timeout_s=30, memory_bytes=1 << 30))
    assert caught.value.code == "conversion.memory"
    assert "--memory-limit" in str(caught.value.hint)


def test_an_error_of_the_child_keeps_its_kind_code_and_hint(tmp_path: Path) -> None:
    with pytest.raises(ParityError, match="it differs") as caught:
        run(tmp_path, "refuse")
    assert (caught.value.code, caught.value.hint) == ("parity.test", "look")


def test_a_fault_nobody_expected_shows_its_last_line(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="ZeroDivisionError: a fault of a converter"):
        run(tmp_path, "raise")


def test_what_libraries_print_is_no_stage(tmp_path: Path) -> None:
    stages: list[str] = []
    run(tmp_path, "print", stages=stages)
    assert stages == ["misbehaving"]
    assert (tmp_path / "made").read_text() == "done"


def test_a_childs_own_children_end_with_it(tmp_path: Path) -> None:
    request = misbehaving_child.Request("spawn")
    running = child.start("tests.packager.misbehaving_child", tmp_path, request, child.Limits(60))
    wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text() != "")
    grandchild = int((tmp_path / "pid").read_text())
    assert alive(grandchild)
    running.kill()
    wait_for(lambda: not alive(grandchild))


def alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
