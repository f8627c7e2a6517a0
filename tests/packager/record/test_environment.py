"""The environment of a training: what takes part, and under which licence."""

from __future__ import annotations

from typing import Any

import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from whimbrel_packager.record import environment, hyperparameters


def test_an_environment_is_what_takes_part_with_what_it_requires() -> None:
    made = environment.of("scikit-learn", "skl2onnx")
    assert {"scikit-learn", "skl2onnx", "scipy", "numpy", "onnxruntime", "whimbrel-core"} <= set(
        made.versions
    )
    # What the command line and repositories need makes no bytes of a bundle.
    assert not {"rich", "tuf", "click", "pytest"} & set(made.versions)
    listed = {package.name: package for package in made.packages}
    assert {"numpy", "scipy"} <= set(listed["scikit-learn"].requires) <= set(listed)
    assert listed["numpy"].licence.startswith("BSD-3-Clause")
    assert list(listed) == sorted(listed)


def test_a_framework_that_another_distribution_provides_is_found_by_its_module() -> None:
    pytest.importorskip("xgboost")
    made = environment.of("xgboost")
    assert any(name.startswith("xgboost") for name in made.used)


def test_the_libraries_of_a_pipelines_steps_take_part() -> None:
    xgboost = pytest.importorskip("xgboost")

    class Held:
        model = make_pipeline(StandardScaler(), xgboost.XGBClassifier())

    source: Any = Held()
    assert hyperparameters.libraries(source) == ("sklearn", "xgboost")
    made = environment.of("scikit-learn", *hyperparameters.libraries(source))
    assert {"scikit-learn", "numpy"} < set(made.used)
    assert any(name.startswith("xgboost") for name in made.used)


def test_what_is_not_installed_is_not_listed() -> None:
    assert environment.of("no-such-framework").used == environment.of().used


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("apache-2.0", "Apache-2.0"),
        ("MIT or bsd-3-clause", "MIT OR BSD-3-Clause"),
        ("Apache License v2.0", "Apache-2.0"),
        ("ask the owner", ""),
        ("", ""),
    ],
)
def test_licences_are_put_into_the_spelling_of_spdx(text: str, known: str) -> None:
    assert environment.expression(text) == known
