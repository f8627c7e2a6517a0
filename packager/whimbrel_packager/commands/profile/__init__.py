"""`whimbrel profile`: profiles of data, without any fleet."""

from __future__ import annotations

import click

from whimbrel_packager.commands.profile.changes import changes
from whimbrel_packager.commands.profile.compare import compare
from whimbrel_packager.commands.profile.export import export
from whimbrel_packager.commands.profile.make import make
from whimbrel_packager.commands.profile.merge import merge
from whimbrel_packager.commands.profile.show import show


@click.group(epilog="Example: whimbrel profile compare january.parquet february.parquet")
def profile() -> None:
    """Profile data, and compare data with data: no fleet, server or bundle is needed.

    Data are .csv, .csv.gz, .tsv, .parquet, .feather and .npz files, or a folder of files (no .npz)
    that are one table; they are read in pieces, so that they may be larger than memory. A profile
    (.wprof) holds counts, and the 63 most frequent words of each text column: no rows.
    """


for _command in (make, compare, changes, show, merge, export):
    profile.add_command(_command)
