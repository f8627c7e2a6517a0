"""Files that hold scikit-learn models: skops, and pickles where somebody allowed them."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from whimbrel_core.errors import ConversionError, InputError, UsageError
from whimbrel_packager.sources import PICKLES, Options

if TYPE_CHECKING:
    from pathlib import Path

    from whimbrel_packager.untyped import Estimator

# Types of scikit-learn that only hold numbers, beside those that skops trusts itself. Trees are
# not among them: their nodes index into memory, so that trusting them is a person's decision.
TRUSTED = (
    "numpy.dtype",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
)


def load(path: Path, options: Options) -> Estimator:
    """Return the model in a file.

    Raises:
        UsageError: a pickle that nobody allowed, a type that is not trusted, or no skops here.
        InputError: the file cannot be read.
        ConversionError: it needs a package that is not installed here.
    """
    if path.suffix.lower() in PICKLES:
        return _load_pickle(path, options)
    return _load_skops(path, options)


def _load_pickle(path: Path, options: Options) -> Estimator:
    if not options.allow_pickle:
        raise UsageError(
            f"{path} is a pickle, and loading one runs whatever code is in it",
            hint="save the model with skops.io.dump, or give --allow-pickle if you made it",
            code="usage.pickle",
        )
    import joblib

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # other versions warn; parity decides
            return joblib.load(path)
    except ModuleNotFoundError as error:
        raise ConversionError(
            f"{path} needs the module {error.name!r}, which is not installed here",
            hint="install the package the model was made with, on this machine",
        ) from error
    except MemoryError:
        raise  # the limit of this process, and not the file's fault
    except Exception as error:
        raise InputError(
            f"{path} cannot be loaded: {type(error).__name__}: {error}",
            hint="save it again with the scikit-learn version of this machine",
            code="input.model",
        ) from error


def _load_skops(path: Path, options: Options) -> Estimator:
    try:
        import skops.io as skops  # type: ignore[import-not-found, unused-ignore]
    except ImportError as error:
        raise UsageError(
            f"{path}: reading .skops files needs skops, which is not installed here",
            hint="pip install skops, or save the model with joblib and give --allow-pickle",
        ) from error
    try:
        trusted = {*TRUSTED, *options.trusted}
        held = set(skops.get_untrusted_types(file=path))
        unknown = sorted(held - trusted)
        model = None if unknown else skops.load(path, trusted=sorted(held & trusted))
    except MemoryError:
        raise
    except Exception as error:
        raise InputError(
            f"{path} cannot be loaded: {type(error).__name__}: {error}",
            hint="save it again with skops.io.dump",
            code="input.model",
        ) from error
    if unknown:
        raise UsageError(
            f"{path} holds types that are not trusted: {', '.join(unknown)}",
            hint="if you know them, give " + " ".join(f"--trusted {name}" for name in unknown),
            code="usage.untrusted",
        )
    return model
