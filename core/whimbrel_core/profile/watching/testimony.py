"""What an alarm of the rate stands on, as a device tells it to whoever wants to judge again.

`whimbrel_core.profile.watching.rate.judged` needs a state and settings. They are sent as one text;
what comes back is bounded, because it was not made here.
"""

from __future__ import annotations

import base64

import msgspec

from whimbrel_core.errors import ProfileError
from whimbrel_core.profile.watching.rate import HOURS, WEEKDAYS, RateSettings, RateState

USUAL = RateSettings()
_SEALED = msgspec.msgpack.Decoder(tuple[RateState, RateSettings])
# Of what was sent: logarithms of rates, and settings, are far within; exp of no sum overflows.
_MOST = 100.0
_LEAST = 1e-6
_LONGEST_MS = 400 * 86_400_000  # `expected` goes through its hours
_MANY = 1 << 53


def written(number: float) -> str:
    """Return a figure of `Rate` as it is told: machines differ in the last digits of a logarithm."""
    return f"{number:.6g}"


def sealed(state: RateState, settings: RateSettings = USUAL) -> str:
    """Return what `judged` needs as text: about 1.1 KB."""
    return base64.b85encode(msgspec.msgpack.encode((state, settings))).decode()


def opened(text: str) -> tuple[RateState, RateSettings]:
    """Return what `sealed` made a text of.

    Raises:
        ProfileError: it is none, or a number in it is out of range.
    """
    try:
        state, settings = _SEALED.decode(base64.b85decode(text))
    except (ValueError, msgspec.DecodeError) as error:
        raise ProfileError(f"what is usual cannot be read: {error}") from error
    lengths = [len(state.hours), len(state.hours_worth)]
    days = [len(state.weekdays), len(state.weekdays_worth)]
    if lengths != [HOURS] * 2 or days != [WEEKDAYS] * 2:
        raise ProfileError("what is usual has a number for every hour and every weekday")
    numbers = (state.level, *state.hours, *state.weekdays, settings.sigmas, *settings.ratios)
    least = min(state.variance, *settings.ratios)
    worths = (state.periods, state.worth, *state.hours_worth, *state.weekdays_worth)
    known = all(abs(number) <= _MOST for number in numbers) and _LEAST <= least <= _MOST
    if not known or not all(0 <= worth < _MANY for worth in worths):
        raise ProfileError("a number of what is usual is out of range")
    if not 0 < state.end_ms - state.start_ms <= _LONGEST_MS or not 0 < state.requests < _MANY:
        raise ProfileError("what is usual has no period to be judged")
    return state, settings
