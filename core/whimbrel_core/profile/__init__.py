"""Profiles: what a model saw and answered, as counts that add up.

A *layout* fixes the cells, a *baseline* holds the reference counts that travel signed inside a
bundle, a *window* holds the counts of one model version on one device over one period. Windows
are merged by addition, compared with the baseline, and watched over time.

What travels is here: `layout`, `slices`, `counts`, `window` (and `flat`, the same as arrays),
`baseline`. Around it:

- `building`: baselines and profiles of data sets, on the build machine;
- `descriptors`: pictures, texts and embeddings as a few numbers;
- `counting`: rows into windows, on a device;
- `encoding`: windows as bytes; `privacy`: what is done to them before they leave; `exports`:
  other tools' formats;
- `drift`: what differs between two sets of counts; `watching`: what changes over time;
  `quality`: how good predictions are.

Without numpy (a device's control process reads and merges windows): `layout`, `counts`, `window`,
`baseline`, `quality.estimates`, `drift.levels`.
"""
