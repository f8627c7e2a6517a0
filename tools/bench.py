"""Run the benchmarks, one after the other: `make bench`, or `make bench ARGS="profile"`.

A benchmark is a module of `benchmarks/` that runs with ``python -m`` and prints what it
measured. One that fails does not stop the others, and makes the exit code 1. Where one compares
us with peers (it imports `benchmarks.peers`), their environment is made first.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main(chosen: list[str]) -> int:
    """Run what was chosen, or everything."""
    folder = ROOT / "benchmarks"
    known = sorted(path.stem for path in folder.glob("[!_]*.py"))
    unknown = sorted(set(chosen) - set(known))
    if unknown or not known:
        print(f"error: no such benchmark: {', '.join(unknown)}", file=sys.stderr)
        print(f"hint:  there are: {', '.join(known)}", file=sys.stderr)
        return 2
    failed = []
    for name in chosen or known:
        if "benchmarks.peers" in (folder / f"{name}.py").read_text():
            setup = [sys.executable, str(ROOT / "tools/environment.py"), "peers"]
            # Without it the benchmark says itself what is missing.
            subprocess.run([*setup, "--venv", str(ROOT / ".venv-peers")], check=False)
        print(f"\n== {name}", flush=True)
        command = [sys.executable, "-m", f"benchmarks.{name}"]
        if subprocess.run(command, check=False, cwd=ROOT).returncode != 0:
            failed.append(name)
    if failed:
        print(f"\nerror: failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
