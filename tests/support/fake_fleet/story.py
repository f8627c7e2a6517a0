"""When, where and of what the story is: the model, its versions, devices and features."""

from __future__ import annotations

from whimbrel_core.identity import sha256

DAY = 86_400_000
MARCH = 1_362_096_000_000  # 1 March 2013
END = MARCH + 306 * DAY  # 1 January 2014
AUTUMN = MARCH + 190 * DAY
NOW = 1_795_000_000_000
MODEL = "flights"
FEATURES = (
    ("temp", "°F"),
    ("dewp", "°F"),
    ("humid", "%"),
    ("wind_dir", "°"),
    ("wind_speed", "mph"),
    ("wind_gust", "mph"),
    ("precip", "in"),
    ("pressure", "hPa"),
    ("visib", "mi"),
    ("sched_hour", "h"),
    ("distance", "mi"),
    ("carrier", None),
)
OUTPUTS = ("probability", "label")
DIGESTS = {version: sha256(version.encode()) for version in ("1.0.0", "1.1.0", "1.2.0")}
PERIODS = {"1.0.0": (MARCH, END), "1.1.0": (AUTUMN, END), "1.2.0": (END - 20 * DAY, END - 17 * DAY)}
DEVICES = ("ewr", "jfk", "lga")
OFFSET = {"ewr": 1.0, "jfk": 0.8, "lga": 1.35, "": 0.9}
