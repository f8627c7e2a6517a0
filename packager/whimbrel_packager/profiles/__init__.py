"""Profiles of data sets, without any fleet: made, merged, compared, exported.

    from whimbrel_packager import profiles

    usual = profiles.log(january)              # a DataFrame, an Arrow table, a dict of arrays
    newer = profiles.log(february, like=usual)
    usual.compare(newer)                       # in a notebook: a table with histograms
    usual.merge(newer).save("both.wprof")

`read` makes one of a file: data, a profile, a bundle or a baseline.
"""

from __future__ import annotations

from whimbrel_packager.profiles.profile import Profile, compare, log, read

__all__ = ["Profile", "compare", "log", "read"]
