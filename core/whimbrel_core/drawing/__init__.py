"""Charts as SVG text: pure functions from numbers to strings, for pages, reports and notebooks.

Colour comes from classes alone (`theme.stylesheet`), so one drawing serves light, dark and print,
and a page's content security policy may forbid inline style. Every mark that carries a state also
carries a letter or a shape, and every point has a ``<title>``: a tooltip without a script. The
numbers behind a chart belong into a table beside it; a chart is never the only place of a value.

Whatever comes from outside (names, words, tooltips) is escaped here, where it becomes text.
"""
