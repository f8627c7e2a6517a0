"""``whimbrel pack``: from a model file and reference data to a signed bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from whimbrel_core.errors import GateError, UsageError
from whimbrel_packager.commands import output, verdict
from whimbrel_packager.commands.place import opened, place

if TYPE_CHECKING:
    from collections.abc import Callable

    from whimbrel_packager.build import PackResult
    from whimbrel_packager.gates import Verdict
    from whimbrel_packager.recipe import Recipe

_FILE = click.Path(path_type=Path)
# Flags that set one key of the recipe as they are.
_FLAGS = {
    **{name: name for name in ("name", "version", "description", "licence")},
    **{name: f"data.{name}" for name in ("label", "held_out", "positive")},
    **{name: f"drift.{name}" for name in ("window_s", "min_rows", "warmup_windows", "warn_psi",
                                          "severe_psi")},
    **{name: f"parity.{name}" for name in ("rtol", "atol")},
    **{name: f"source.{name}" for name in ("allow_pickle", "task")},
    "output_is": "source.output",
    "timeout_s": "limits.timeout_s",
}  # fmt: skip


@click.command(
    epilog="Example: whimbrel pack model.skops --name flights --version 1.0.0 "
    "--reference data.npz --label late --positive true --key keys/bundle.pem --out bundles"
)
@click.argument("model", type=_FILE, required=False)
@click.option("--recipe", type=_FILE, help="A file that says all this, and which gates have to "
              "hold; flags go before it. Default: ./whimbrel.toml, if there is one.")  # fmt: skip
@click.option("--name", help="Name of the model: [a-z0-9._-], stays for ever.")
@click.option("--version", help="SemVer of this bundle, e.g. 1.0.0.")
@click.option("--reference", type=_FILE, help="Data the model was trained or "
              "validated on: .npz, .csv or .parquet, or a folder of .csv or .parquet files that are one "
              "table; one column per feature.")  # fmt: skip
@click.option("--label", help="Column of the reference data with the true label or value.")
@click.option("--held-out", help="Column that is true for rows the model was not trained on; "
              "quality and calibration come from these.")  # fmt: skip
@click.option("--check", is_flag=True, help="Convert, prove and judge the gates; sign nothing, "
              "write no bundle. Needs no key.")  # fmt: skip
@click.option("--report-json", type=_FILE, help="File for the report on all gates, whether they "
              "hold or not.")  # fmt: skip
@click.option("--key", help="Signing key: a PEM or .uri file, or a URI (pkcs11:, "
              "awskms:, …); see 'whimbrel keys'.")  # fmt: skip
@click.option("--password-file", type=_FILE, help="Password of an encrypted key, or a token's PIN.")
@click.option("--out", default=".", type=_FILE, show_default=True, help="Folder of the bundle.")
@click.option("--release", type=click.IntRange(min=1), help="Release counter; devices never go "
              "back below it. Default: from --repo, else 1.")  # fmt: skip
@click.option("--repo", type=place, metavar="PLACE", help="Repository to take the next release "
              "counter from: a directory or an address.")  # fmt: skip
@click.option("--positive", help="The positive class of a two-class model.")
@click.option("--classes", help="Class names by index, comma-separated (ONNX models that do not "
              "say them).")  # fmt: skip
@click.option("--task", type=click.Choice(["classification", "regression"]),
              help="What an ONNX model does, when its outputs do not tell.")  # fmt: skip
@click.option("--output-is", type=click.Choice(["logits", "probabilities", "value"]),
              help="What the numbers of a network's main output are; logits get a softmax.")  # fmt: skip
@click.option("--units", multiple=True, metavar="COLUMN=UNIT", help="Physical unit of a column.")
@click.option("--param", "params", multiple=True, metavar="KEY=VALUE",
              help="Something to record about the training.")  # fmt: skip
@click.option("--description", help="A sentence for people.")
@click.option("--licence", help="Licence of the model.")
@click.option("--device-class", "device_classes", multiple=True,
              help="Kind of device it is meant for (repeat); default: any.")  # fmt: skip
@click.option("--window-s", type=click.IntRange(min=1), help="Length of a profile window, seconds.")
@click.option(
    "--min-rows", type=click.IntRange(min=1), help="Rows that a window needs to be judged."
)
@click.option("--warmup-windows", type=click.IntRange(min=0),
              help="Windows before drift over time is judged.")  # fmt: skip
@click.option("--warn-psi", type=float, help="Effect (PSI) of a warning.")
@click.option("--severe-psi", type=float, help="Effect (PSI) of a severe drift.")
@click.option("--arl-days", type=click.FloatRange(min=0.01),
              help="Days between false alarms that are acceptable.")  # fmt: skip
@click.option("--rtol", type=click.FloatRange(min=0),
              help="Relative tolerance of parity. Default: 1e-4.")  # fmt: skip
@click.option("--atol", type=click.FloatRange(min=0), help="Absolute tolerance of parity. Default: "
              "1e-5, times the output's spread for regressions.")  # fmt: skip
@click.option("--allow-pickle", is_flag=True, default=None,
              help="Load .joblib/.pkl, which runs whatever code is in them.")  # fmt: skip
@click.option("--trusted", multiple=True, metavar="TYPE", help="Type that a .skops file may hold.")
@click.option("--timeout", "timeout_s", type=click.FloatRange(min=0.1), help="Seconds that the conversion "
              "may take. Default: 120.")  # fmt: skip
@click.option("--memory-limit", "memory_mib", type=click.IntRange(min=256), help="MiB of "
              "address space that it may take. Default: 8192.")  # fmt: skip
@output.json_option
def pack(**given: Any) -> None:  # noqa: ANN401 - click's options, by name
    """Convert MODEL to ONNX, prove the conversion, profile the data, and sign it all.

    MODEL is a scikit-learn model (.skops, or .joblib/.pkl with --allow-pickle), one of XGBoost
    (.ubj, .json), LightGBM (.txt) or CatBoost (.cbm), a network (.pt2, .keras or a SavedModel), a
    directory of MLflow, or an .onnx file.
    The result is NAME-VERSION.whim, or an error that names what was wrong; never half a file.
    Exit code 8: it could be packed, and a gate of the recipe does not hold.
    """
    with output.stages(quiet=given["as_json"]) as stage:
        recipe = _recipe(given, stage)
        try:
            told = (_check if given["check"] else _pack)(given, recipe, stage)
        except GateError as error:
            told = _refused(error)
    if given["report_json"] is not None:
        _write_report(given["report_json"], told.gates)
    if told.failed is None:
        output.result(told.value, told.lines, as_json=given["as_json"])
        return
    if not given["as_json"]:
        output.result(None, told.lines, as_json=False)
    raise told.failed


class Told(NamedTuple):
    """What is printed: for ``--json``, for people; the verdict of gates, and whether it failed."""

    value: object
    lines: list[str]
    gates: Verdict | None
    failed: GateError | None = None


def _refused(error: GateError) -> Told:
    from whimbrel_packager.gates.outcome import Verdict

    if not isinstance(error.report, Verdict):
        raise error
    return Told(None, verdict.lines(error.report), error.report, error)


def _pack(given: dict[str, Any], recipe: Recipe, stage: Callable[[str], None]) -> Told:
    """Pack, and return what to say of it."""
    from whimbrel_packager.build import pack as run
    from whimbrel_packager.signing import signers

    if not given["key"]:
        raise UsageError(
            "no signing key was given",
            hint="give --key, see 'whimbrel keys'; or --check, to judge without signing",
        )
    done = run(
        key=signers.load(given["key"], given["password_file"]),
        out=given["out"],
        recipe=recipe,
        report=stage,
    )
    value = {
        "path": str(done.path),
        "digest": done.digest,
        "manifest": done.manifest,
        "report": done.report,
    }
    return Told(value, _lines(done), done.report.gates)


def _check(given: dict[str, Any], recipe: Recipe, stage: Callable[[str], None]) -> Told:
    """Judge without signing, and return what to say of it."""
    from whimbrel_packager.build import check as run
    from whimbrel_packager.signing import signers

    key = signers.load(given["key"], given["password_file"]).public if given["key"] else None
    report = run(recipe=recipe, key=key, report=stage)
    if report.gates is None:
        lines = ["no gates are declared", "begin a recipe with 'whimbrel recipe init'"]
        return Told({"report": report}, lines, None)
    report.gates.require()
    lines = [f"{recipe.title} could be packed; nothing was written", *verdict.lines(report.gates)]
    return Told({"report": report}, lines, report.gates)


def _write_report(path: Path, gates: Verdict | None) -> None:
    """Write the report; without gates there is none, and an older one must not stand for it."""
    import msgspec

    from whimbrel_packager import atomic

    data = msgspec.json.format(msgspec.json.encode(gates), indent=2)
    atomic.write(path, data + b"\n")


def _recipe(given: dict[str, Any], stage: Callable[[str], None]) -> Recipe:
    """Return the recipe's file, if there is one, with the flags on top."""
    from whimbrel_packager import recipe as recipes

    path = given["recipe"]
    if path is None and Path(recipes.FILE).is_file():
        path = Path(recipes.FILE)
        stage(f"following {path}")
    values = {dotted: given[flag] for flag, dotted in _FLAGS.items()}
    if given["arl_days"] is not None:
        values["drift.arl_s"] = int(given["arl_days"] * 86_400)
    if given["memory_mib"] is not None:
        values["limits.memory_bytes"] = given["memory_mib"] << 20
    if given["classes"]:
        values["source.classes"] = [word.strip() for word in given["classes"].split(",")]
    for flag, dotted in (("units", "data.units"), ("params", "training")):
        if given[flag]:
            values[dotted] = output.pairs(given[flag], f"--{flag.removesuffix('s')}")
    for flag, dotted in (("device_classes", "device_classes"), ("trusted", "source.trusted")):
        if given[flag]:
            values[dotted] = given[flag]
    for name in ("model", "reference"):
        dotted = name if name == "model" else f"data.{name}"
        values[dotted] = str(given[name]) if given[name] else None
    recipe = recipes.with_values(recipes.read(path), values)
    recipe.check()
    return recipes.with_values(recipe, {"release": _release(given, recipe)})


def _release(given: dict[str, Any], recipe: Recipe) -> int | None:
    if given["release"] is not None or given["repo"] is None:
        return given["release"]  # type: ignore[no-any-return]  # click made it an integer
    from whimbrel_packager.repository.repository import Repository

    return Repository(opened(given["repo"])).next_release(recipe.name, recipe.version)


def _lines(done: PackResult) -> list[str]:
    report, manifest = done.report, done.manifest
    lines = [
        f"{done.path}  {output.size(report.bundle_bytes)}, release {manifest.release}",
        f"  model     {manifest.source.estimator} → ONNX, {output.size(report.model_bytes)}",
        *(f"  rewritten {rewrite}" for rewrite in manifest.source.rewrites),
        (
            f"  parity    {report.rows} rows ({report.thresholds} split thresholds), largest "
            f"difference {report.max_abs_error:.2g} (allowed {report.atol:g} + {report.rtol:g}·|x|)"
        ),
        (
            f"  runs in   {report.latency_us:.0f} µs a row, {report.latency_16_us:.0f} µs per 16 rows, "
            f"{output.size(report.memory_bytes)} of memory (this machine, one thread)"
        ),
    ]
    if report.metrics:
        shown = ", ".join(f"{name} {value:g}" for name, value in report.metrics.items())
        lines.append(f"  quality   {shown}")
    if report.unused_columns:
        lines.append(f"  not used  {', '.join(report.unused_columns)}")
    lines += [f"  note      {note}" for note in report.notes]
    if report.gates is not None:
        first, *rest = verdict.brief(report.gates)
        lines += [f"  gates     {first}", *(f"          {line}" for line in rest)]
    lines.append(f"  sha256    {done.digest}")
    return lines
