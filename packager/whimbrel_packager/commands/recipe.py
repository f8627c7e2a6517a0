"""``whimbrel recipe``: the file beside the training code that says what is packed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from whimbrel_packager.commands import output

if TYPE_CHECKING:
    from collections.abc import Callable

    from whimbrel_packager.frame import Frame
    from whimbrel_packager.gates import Context, Outcome
    from whimbrel_packager.gates.starter import Start

_FILE = click.Path(path_type=Path)
# What such columns are usually called.
_LABELS = ("label", "target", "y", "class")
_HELD_OUT = ("held_out", "heldout", "is_held_out", "is_test", "test")


@click.group(epilog="Example: whimbrel recipe init model.skops --reference data.npz --label late")
def recipe() -> None:
    """Begin a recipe (whimbrel.toml)."""


@recipe.command(
    epilog="Example: whimbrel recipe init model.skops --reference data.npz --label late "
    "--held-out held_out --positive 1"
)
@click.argument("model", type=_FILE, required=False)
@click.option("--reference", required=True, type=_FILE, help="Data the model was trained or "
              "validated on: .npz, .csv or .parquet, or a folder of .csv or .parquet files that are one "
              "table; one column per feature.")  # fmt: skip
@click.option("--label", help="Column with the true label. Default: one called label, target, y "
              "or class.")  # fmt: skip
@click.option("--held-out", help="Column that is true for rows the model was not trained on. "
              "Default: one called held_out or test.")  # fmt: skip
@click.option("--positive", help="The positive class of a two-class model.")
@click.option("--name", help="Name of the model. Default: the folder's.")
@click.option("--aside", multiple=True, metavar="COLUMN", help="Column that the model does not "
              "read: a time, a group, a segment (repeat).")  # fmt: skip
@click.option("--allow-pickle", is_flag=True, help="Load .joblib/.pkl, which runs whatever code "
              "is in them.")  # fmt: skip
@click.option("--out", default="whimbrel.toml", type=_FILE, show_default=True, help="File to make.")
@output.json_option
def init(**given: Any) -> None:  # noqa: ANN401 - click's options, by name
    """Look at MODEL and its data, and write a commented recipe with gates that they keep.

    Without MODEL, only the data is looked at. An existing file is never written over.
    """
    from whimbrel_core.errors import UsageError
    from whimbrel_packager import atomic
    from whimbrel_packager import frame as frames
    from whimbrel_packager.gates import starter

    out, reference, model = given["out"], given["reference"], given["model"]
    if out.exists():
        raise UsageError(
            f"{out} is there already; it was not touched",
            hint="name another file with --out",
            code="usage.exists",
        )
    with output.stages(quiet=given["as_json"]) as stage:
        stage("reading the reference data")
        frame = frames.read(reference, given["aside"])
        start = starter.Start(
            name=given["name"] or _model_name(out),
            model=_beside(model, out) if model else "",
            reference=_beside(reference, out),
            label=given["label"] or _called(frame, _LABELS),
            held_out=given["held_out"] or _called(frame, _HELD_OUT),
            positive=given["positive"] or "",
            allow_pickle=given["allow_pickle"],
            aside=given["aside"],
        )
        special = [column for column in (start.label, start.held_out, *start.aside) if column]
        frame.select(special, what="the command")
        context = _context(model, reference, start, stage) if model else None
        text = starter.write(start, frame.without(special), context)
        atomic.write(out, text.encode(), replace=False)
    value = {"path": str(out), "label": start.label, "held_out": start.held_out, "recipe": text}
    output.result(value, _lines(out, start, context), as_json=given["as_json"])


def _lines(out: Path, start: Start, context: Context | None) -> list[str]:
    judged = "columns, data, quality and budgets" if context else "columns and data"
    here = out.name == "whimbrel.toml" and out.parent == Path()
    return [
        f"{out}: gates on {judged}, which hold today",
        f"  label     {start.label or 'none found: give --label'}",
        f"  held out  {start.held_out or 'none found: give --held-out'}",
        f"read it, then run: whimbrel pack --check{'' if here else f' --recipe {out}'}",
    ]


def _context(
    model: Path, reference: Path, start: Start, stage: Callable[[str], None]
) -> Context | None:
    """Convert and prove the model, and return what gates see of it."""
    from whimbrel_packager.build import check
    from whimbrel_packager.gates import Outcome as Found
    from whimbrel_packager.recipe import Recipe, with_values

    seen: list[Context] = []

    def look(context: Context) -> Outcome:
        seen.append(context)
        return Found("look", "own", held=True)

    recipe = with_values(
        Recipe(name=start.name, version="0.1.0"),
        {
            "data.label": start.label,
            "data.held_out": start.held_out,
            "data.positive": start.positive,
            "data.aside": start.aside,
            "source.allow_pickle": start.allow_pickle,
        },
    )
    check(model, reference, recipe=recipe, own_gates=[look], report=stage)
    return seen[0] if seen else None


def _called(frame: Frame, names: tuple[str, ...]) -> str:
    return next((name for name in names if name in frame.columns), "")


def _model_name(out: Path) -> str:
    """Return the folder's name as a model may be called."""
    kept = [c if c.isascii() and (c.isalnum() or c in "._-") else "-"
            for c in out.resolve().parent.name.lower()]  # fmt: skip
    return "".join(kept).strip("._-") or "model"


def _beside(path: Path, out: Path) -> str:
    return os.path.relpath(path, out.parent)
