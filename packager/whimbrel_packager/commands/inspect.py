"""``whimbrel inspect``: look into a bundle without any key."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from whimbrel_packager.commands import output

if TYPE_CHECKING:
    from whimbrel_core.bundle.manifest import Manifest


@click.command(epilog="Example: whimbrel inspect flights-1.0.0.whim")
@click.argument("bundle", type=click.Path(path_type=Path))
@output.json_option
def inspect(bundle: Path, as_json: bool) -> None:
    """Show what BUNDLE says of itself. Nothing is verified: see 'whimbrel verify'."""
    from whimbrel_core.bundle import bundle as bundles

    with opened(bundle) as file:
        manifest, sizes = bundles.inspect(file, what=str(bundle))
    value = {"verified": False, "manifest": manifest, "files": sizes}
    output.result(value, ["NOT VERIFIED (see 'whimbrel verify')", *lines(manifest, sizes)],
                  as_json=as_json)  # fmt: skip


def opened(path: Path) -> BinaryIO:
    """Open a bundle, or raise `UsageError`."""
    from whimbrel_core.errors import UsageError

    try:
        return path.open("rb")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error


def lines(manifest: Manifest, sizes: dict[str, int]) -> list[str]:
    """Return a manifest for people."""
    source, parity, needs = manifest.source, manifest.parity, manifest.requirements
    shown = [
        f"{manifest.name} {manifest.version}, release {manifest.release}, {manifest.task}",
        *([f"  {manifest.description}"] if manifest.description else []),
        (
            f"  made from  {source.estimator} ({source.framework} {source.framework_version}), "
            f"{manifest.created}"
        ),
        f"  inputs     {', '.join(f'{t.name} {t.datatype}' for t in manifest.inputs)}",
        f"  outputs    {', '.join(f'{o.name} {o.datatype} ({o.role})' for o in manifest.outputs)}",
    ]
    if manifest.classes:
        marked = [
            f"{name} (positive)" if i == manifest.positive else name
            for i, name in enumerate(manifest.classes)
        ]
        shown.append(f"  classes    {', '.join(marked)}")
    shown += [
        (
            f"  parity     {parity.rows} rows, largest difference {parity.max_abs_error:.2g}, "
            f"rtol {parity.rtol:g}, atol {parity.atol:g}"
        ),
        f"  needs      onnxruntime ≥ {needs.onnxruntime}, "
        + (output.size(needs.memory_bytes) if needs.memory_bytes else "memory not measured")
        + (f", device class {', '.join(needs.device_classes)}" if needs.device_classes else ""),
        f"  windows    {manifest.drift.window_s} s, at least {manifest.drift.min_rows} rows",
    ]
    if manifest.metrics:
        shown.append(
            "  measured   "
            + ", ".join(f"{name} {value:g}" for name, value in manifest.metrics.items())
        )
    for name, value in manifest.training.items():
        shown.append(f"  training   {name} = {value}")
    shown.append(f"  profile    {manifest.profile_id}")
    shown.append("  files      " + ", ".join(f"{n} {output.size(s)}" for n, s in sizes.items()))
    return shown
