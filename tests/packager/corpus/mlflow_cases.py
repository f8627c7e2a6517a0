"""MLflow: model directories that mlflow 3.17 wrote, and some that were tampered with."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import catboost
import joblib
import lightgbm
import numpy as np
import onnxruntime
import pandas as pd
import skops.io as skops
import xgboost
from sklearn.linear_model import LinearRegression

from tests.packager.corpus.case import Case, Given

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Array = np.ndarray[Any, Any]

SOURCE = "MLflow"
HOME = Path(__file__).parents[1] / "fixtures/mlflow"
ROWS = 200


def weather() -> Any:  # noqa: ANN401 - a table
    """Rows of the kind that the models were trained on, and a column that they do not read."""
    rng = np.random.default_rng(5)
    made = pd.DataFrame(
        {"wind": rng.gamma(2, 3, ROWS).round(1), "temp": rng.normal(20, 5, ROWS).round(1)}
    )
    return made.astype(np.float32).astype(np.float64).assign(other=1.0)


def directory(
    name: str, read: Callable[[Path], object] | None = None, data: object = None, **options: object
) -> Callable[[Path], Given]:
    """A fixture as it is."""
    return lambda _folder: Given(
        HOME / name,
        weather() if data is None else data,
        options,
        asked=read(HOME / name) if read else None,
    )


def changed(
    name: str, texts: Mapping[str, str], data: object = None
) -> Callable[[Path], Given]:  # fmt: skip
    """A fixture with words of its MLmodel replaced."""

    def make(folder: Path) -> Given:
        shutil.copytree(HOME / name, folder / "model")
        stated = (folder / "model/MLmodel").read_text()
        for old, new in texts.items():
            assert old in stated
            stated = stated.replace(old, new)
        (folder / "model/MLmodel").write_text(stated)
        (folder / "secret.ubj").write_bytes((HOME / "xgboost/model.ubj").read_bytes())
        return Given(folder / "model", weather() if data is None else data)

    return make


def pickled(*, allowed: bool) -> Callable[[Path], Given]:
    """The scikit-learn flavour as mlflow wrote it before skops: a pickle."""

    def make(folder: Path) -> Given:
        given = changed("sklearn", {"model.skops": "model.pkl"})(folder)
        model = skops.load(HOME / "sklearn/model.skops", trusted=[])
        joblib.dump(model, folder / "model/model.pkl")
        return given._replace(options={"allow_pickle": allowed}, asked=model)

    return make


def without_names(folder: Path) -> Given:
    """A model that was fitted on an array, so that the signature alone has names."""
    given = changed("sklearn", {"model.skops": "model.pkl"})(folder)
    rows = weather()
    model = LinearRegression().fit(rows[["temp", "wind"]].to_numpy(), rows.temp * 2 - rows.wind)
    joblib.dump(model, folder / "model/model.pkl")
    return given._replace(data=rows[["temp", "wind"]], options={"allow_pickle": True}, asked=model)


def linked_out(folder: Path) -> Given:
    """The model's file is a symbolic link to one outside."""
    given = changed("xgboost", {"mlflow_version": "mlflow_version"})(folder)
    (folder / "model/model.ubj").unlink()
    (folder / "model/model.ubj").symlink_to(folder / "secret.ubj")
    return given


def classifier_of_xgboost(home: Path) -> object:
    model = xgboost.XGBClassifier()
    model.load_model(home / "model.ubj")
    return model


OUT = "model.ubj', outside the model's directory"
TRUSTED = ("collections.OrderedDict", "lightgbm.basic.Booster", "lightgbm.sklearn.LGBMClassifier")
CASES = [
    Case("sklearn, skops", directory(
        "sklearn", lambda home: skops.load(home / "model.skops", trusted=[]))),
    Case("sklearn, an allowed pickle", pickled(allowed=True)),
    Case("sklearn, names from the signature", without_names),
    Case("xgboost", directory("xgboost", classifier_of_xgboost)),
    Case("lightgbm, a booster", directory(
        "lightgbm", lambda home: lightgbm.Booster(model_file=str(home / "model.lgb")))),
    Case("lightgbm, skops", directory(
        "lightgbm-skops", lambda home: skops.load(home / "model.skops", trusted=list(TRUSTED)),
        trusted=TRUSTED)),
    Case("catboost", directory("catboost", lambda home: catboost.CatBoostClassifier().load_model(
        str(home / "model.cb")))),
    Case("onnx", directory(
        "onnx", lambda home: onnxruntime.InferenceSession(home / "model.onnx"),
        weather()[["temp", "wind"]].to_numpy(dtype=np.float32))),
    Case("sklearn, a pickle", pickled(allowed=False), "usage.pickle", "runs whatever code"),
    Case("lightgbm, skops that nobody trusts", directory("lightgbm-skops"),
         "usage.untrusted", "lightgbm.basic.Booster"),
    Case("python_function alone", directory("pyfunc"), "conversion.flavour", "any Python code"),
    Case("another flavour", changed("xgboost", {"  xgboost:": "  spark:"}),
         "conversion.flavour", "flavours spark, of which none"),
    Case("a path out of it", changed("xgboost", {"data: model.ubj": "data: ../secret.ubj"}),
         "conversion.outside", "outside the model's directory"),
    Case("an absolute path", changed("xgboost", {"data: model.ubj": "data: /etc/hostname"}),
         "conversion.outside", "outside the model's directory"),
    Case("a link out of it", linked_out, "conversion.outside", OUT),
    Case("a file that is gone", changed("xgboost", {"data: model.ubj": "data: gone.ubj"}),
         "input.model", "there is no such file"),
    Case("code of its own", changed("sklearn", {"code: null": "code: code"}),
         "conversion.failed", "brings code of its own"),
    Case("a column of another type", directory(
        "xgboost", data=weather().assign(temp=["warm"] * ROWS)),
        "input.column", "column 'temp' is double in the signature"),
    Case("a column less than the signature", directory("xgboost", data=weather()[["temp"]]),
         "input.column", "no column 'wind'"),
    Case("another example", changed("xgboost", {"input_example.json": "MLmodel"}),
         "input.model", "cannot be read"),
    Case("no YAML", changed("xgboost", {"flavors:": "flavors: [{"}), "input.model", "cannot be read"),
]  # fmt: skip


def ask(model: Any, rows: Any) -> dict[str, Any]:  # noqa: ANN401 - of any kind
    """Return the model's own answers."""
    if isinstance(model, onnxruntime.InferenceSession):
        label, probabilities = model.run(None, {"features": rows})
        return {"label": label, "probabilities": probabilities}
    table = rows[["temp", "wind"]]
    if isinstance(model, lightgbm.Booster):
        answer = np.asarray(model.predict(table))
        return {
            "label": (answer > 0.5).astype(int),
            "probabilities": np.stack([1 - answer, answer], axis=1),
        }
    if isinstance(model, LinearRegression):
        return {"value": model.predict(table.to_numpy())}
    return {"label": model.predict(table), "probabilities": model.predict_proba(table)}
