"""``whimbrel pack``: from a model file and reference data to a signed bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from whimbrel_packager.commands import output

if TYPE_CHECKING:
    from collections.abc import Callable

    from whimbrel_packager.build import PackResult

_FILE = click.Path(path_type=Path)


@click.command(
    epilog="Example: whimbrel pack model.skops --name flights --version 1.0.0 "
    "--reference data.npz --label late --positive true --key keys/bundle.pem --out bundles"
)
@click.argument("model", type=_FILE)
@click.option("--name", required=True, help="Name of the model: [a-z0-9._-], stays for ever.")
@click.option("--version", required=True, help="SemVer of this bundle, e.g. 1.0.0.")
@click.option("--reference", required=True, type=_FILE, help="Data the model was trained or "
              "validated on: .npz, .csv or .parquet, one column per feature.")  # fmt: skip
@click.option("--label", help="Column of the reference data with the true label or value.")
@click.option("--held-out", help="Column that is true for rows the model was not trained on; "
              "quality and calibration come from these.")  # fmt: skip
@click.option("--key", required=True, type=_FILE, help="Signing key (PEM), see 'whimbrel keys'.")
@click.option("--password-file", type=_FILE, help="Password of an encrypted signing key.")
@click.option("--out", default=".", type=_FILE, show_default=True, help="Folder of the bundle.")
@click.option("--release", type=click.IntRange(min=1), help="Release counter; devices never go "
              "back below it. Default: from --repo, else 1.")  # fmt: skip
@click.option("--repo", type=_FILE, help="Repository to take the next release counter from.")
@click.option("--positive", help="The positive class of a two-class model.")
@click.option("--classes", help="Class names by index, comma-separated (ONNX models that do not "
              "say them).")  # fmt: skip
@click.option("--task", type=click.Choice(["classification", "regression"]),
              help="What an ONNX model does, when its outputs do not tell.")  # fmt: skip
@click.option("--units", multiple=True, metavar="COLUMN=UNIT", help="Physical unit of a column.")
@click.option("--param", "params", multiple=True, metavar="KEY=VALUE",
              help="Something to record about the training.")  # fmt: skip
@click.option("--description", default="", help="A sentence for people.")
@click.option("--licence", default="", help="Licence of the model.")
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
@click.option("--rtol", type=click.FloatRange(min=0), default=1e-4, show_default=True,
              help="Relative tolerance of parity.")  # fmt: skip
@click.option("--atol", type=click.FloatRange(min=0), help="Absolute tolerance of parity. Default: "
              "1e-5, times the output's spread for regressions.")  # fmt: skip
@click.option("--allow-pickle", is_flag=True,
              help="Load .joblib/.pkl, which runs whatever code is in them.")  # fmt: skip
@click.option("--trusted", multiple=True, metavar="TYPE", help="Type that a .skops file may hold.")
@click.option("--timeout", "timeout_s", type=click.FloatRange(min=0.1), default=120.0,
              show_default=True, help="Seconds that the conversion may take.")  # fmt: skip
@click.option("--memory-limit", "memory_mib", type=click.IntRange(min=256), default=8192,
              show_default=True, help="MiB of address space that it may take.")  # fmt: skip
@output.json_option
def pack(model: Path, **given: Any) -> None:  # noqa: ANN401 - click's options, by name
    """Convert MODEL to ONNX, prove the conversion, profile the data, and sign it all.

    MODEL is a scikit-learn model (.skops, or .joblib/.pkl with --allow-pickle) or an .onnx file.
    The result is NAME-VERSION.whim, or an error that names what was wrong; never half a file.
    """
    from whimbrel_core import identity

    # Before anything slow is imported: a mistyped name is told at once.
    identity.model_name(given["name"])
    identity.version(given["version"])
    with output.stages(quiet=given["as_json"]) as stage:
        done = _pack(model, given, stage)
    value = {
        "path": str(done.path),
        "digest": done.digest,
        "manifest": done.manifest,
        "report": done.report,
    }
    output.result(value, _lines(done), as_json=given["as_json"])


def _pack(model: Path, given: dict[str, Any], stage: Callable[[str], None]) -> PackResult:
    from whimbrel_core.bundle.manifest import DriftPolicy
    from whimbrel_packager import keyfiles
    from whimbrel_packager.build import pack as run
    from whimbrel_packager.child import Limits
    from whimbrel_packager.sources import Options

    changed = {
        name: given[name]
        for name in ("window_s", "min_rows", "warmup_windows", "warn_psi", "severe_psi")
        if given[name] is not None
    }
    if given["arl_days"] is not None:
        changed["arl_s"] = int(given["arl_days"] * 86_400)
    classes = tuple(c.strip() for c in given["classes"].split(",")) if given["classes"] else ()
    return run(
        model,
        given["reference"],
        name=given["name"],
        version=given["version"],
        key=keyfiles.private(given["key"], given["password_file"]),
        out=given["out"],
        label=given["label"],
        held_out=given["held_out"],
        release=_release(given),
        positive=given["positive"],
        units=output.pairs(given["units"], "--units"),
        params=output.pairs(given["params"], "--param"),
        description=given["description"],
        licence=given["licence"],
        device_classes=given["device_classes"],
        drift=DriftPolicy(**changed),
        rtol=given["rtol"],
        atol=given["atol"],
        options=Options(
            allow_pickle=given["allow_pickle"],
            trusted=tuple(given["trusted"]),
            task=given["task"] or "",
            classes=classes,
        ),
        limits=Limits(given["timeout_s"], given["memory_mib"] << 20),
        report=stage,
    )


def _release(given: dict[str, Any]) -> int:
    if given["release"] is not None:
        return int(given["release"])
    if given["repo"] is None:
        return 1
    from whimbrel_packager.repository import Repository

    return Repository(given["repo"]).next_release(given["name"], given["version"])


def _lines(done: PackResult) -> list[str]:
    report, manifest = done.report, done.manifest
    lines = [
        f"{done.path}  {output.size(report.bundle_bytes)}, release {manifest.release}",
        f"  model     {manifest.source.estimator} → ONNX, {output.size(report.model_bytes)}",
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
    lines.append(f"  sha256    {done.digest}")
    return lines
