"""The judgement: every declared gate is asked, and every own one; then comes the verdict.

None stops another: whoever mends a model wants to hear all that is wrong with it at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from whimbrel_core.errors import WhimbrelError
from whimbrel_packager.gates import budgets, columns, incumbent, leaks, quality, skew, slices
from whimbrel_packager.gates.outcome import Outcome, Verdict, refused

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from whimbrel_packager.gates.context import Context, Gate
    from whimbrel_packager.gates.declared import Gates


def judge(declared: Gates, context: Context, own: Sequence[Gate] = ()) -> Verdict:
    """Return the verdict over all gates.

    Args:
        declared: ``[gates]`` of the recipe.
        context: what they look at.
        own: callables that answer a context with an outcome.
    """
    outcomes = [*_declared(declared, context), *(_own(gate, context) for gate in own)]
    return Verdict.over(
        outcomes, name=context.name, version=context.version, machine=context.measured.machine
    )


def _declared(declared: Gates, context: Context) -> Iterator[Outcome]:
    if declared.columns or declared.undeclared == "refuse":
        yield from columns.judge(
            declared.columns, context.frame, declared.undeclared, tuple(context.inputs)
        )
    if declared.data is not None:
        yield from leaks.judge(declared.data, context)
    if declared.quality is not None:
        yield from quality.judge(declared.quality, context)
    if declared.incumbent is not None:
        yield from incumbent.judge(declared.incumbent, context)
    yield from slices.judge(declared.slices, context)
    if declared.budgets is not None:
        yield from budgets.judge(declared.budgets, context.measured)
    if declared.skew is not None:
        yield from skew.judge(declared.skew, context)


def _own(gate: Gate, context: Context) -> Outcome:
    """Ask an own gate; one that breaks has not held, and says how it broke."""
    name = f"own.{getattr(gate, '__name__', type(gate).__name__)}"
    try:
        outcome: object = gate(context)
    except WhimbrelError:
        raise
    except Exception as error:  # noqa: BLE001 - it is somebody else's code
        return refused(name, "own", f"it raised {type(error).__name__}: {error}")
    if not isinstance(outcome, Outcome):
        kind = type(outcome).__name__
        return refused(name, "own", f"it answered with {kind}, an Outcome is needed")
    return msgspec.structs.replace(outcome, name=outcome.name or name, kind="own")
