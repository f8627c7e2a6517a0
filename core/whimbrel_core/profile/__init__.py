"""Profiles: what a model saw and answered, as counts that add up.

A *layout* fixes the cells, a *baseline* holds the reference counts that travel signed inside a
bundle, a *window* holds the counts of one model version on one device over one period. Windows
are merged by addition, compared with the baseline, and watched over time.

Without numpy (a device's control process reads and merges windows): `layout`, `counts`,
`window`, `baseline`, `quality`, `levels`. With numpy: `tally`, `accumulator`, `reference`,
`distances`, `sequential`.
"""
