"""Gates: what has to hold before a bundle is signed. Values in, values out.

``[gates]`` of the recipe declares them (`declared`); each noun has a file that owns its section and
its judgement. `judgement.judge` asks them all; `outcome.Verdict` is the report. A gate of one's own
is a callable from a `Context` to an `Outcome`.
"""

from whimbrel_packager.gates.context import Context, Gate
from whimbrel_packager.gates.outcome import Outcome, Part, Verdict

__all__ = ["Context", "Gate", "Outcome", "Part", "Verdict"]
