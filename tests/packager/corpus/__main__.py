"""Write the page's sections of the sources that are installed here: all, or those that are named."""

from __future__ import annotations

import sys

from tests.packager.corpus import collection, judge, page


def main(chosen: list[str]) -> int:
    """Judge every case and write docs/reference/conversions.md."""
    found, missing = collection.sources()
    unknown = sorted(set(chosen) - set(found) - set(missing))
    if unknown:
        print(f"error: no source {', '.join(unknown)}; there are {', '.join([*found, *missing])}")
        return 2
    wrong = 0
    sections = {}
    for key, source in found.items():
        if chosen and key not in chosen:
            continue
        rows = {}
        for name in source.cases:
            seen = rows[name] = judge.seen(key, name)
            print(f"{key:10} {name:40} {page.outcome(seen)} {' '.join(seen.rewrites)}", flush=True)
            if seen.disagreement:
                print(f"error: {name}: silently wrong: {seen.disagreement}")
                wrong += 1
        sections[source.name] = page.section(source.name, rows)
    for key, reason in missing.items():
        print(f"kept as it is: {key}: {reason}")
    if not wrong:
        held = page.PATH.read_text() if page.PATH.exists() else ""
        page.PATH.write_text(page.merge(held, sections))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
