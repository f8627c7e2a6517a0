"""Run the targets under atheris: ``make fuzz``, or ``python -m tests.core.fuzz TARGET …``.

Each target runs in a process of its own, for ``--seconds``, with a limit of memory; inputs that
took a new branch are kept in ``build/fuzz/TARGET`` and are where the next run goes on. What crashes
a reader is left in that folder as ``crash-…`` and ends the run with an error.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
CORPUS = ROOT / "build/fuzz"
MEMORY_MIB = 1024
LONGEST = 1 << 16


def main() -> int:
    """Fuzz the chosen targets one after the other; the exit code counts those that failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("targets", nargs="*", help="names of targets; none: all of them")
    parser.add_argument("--seconds", type=int, default=60, help="for each (%(default)s)")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        _fuzz(given.child, given.seconds)
        return 0
    from tests.core.fuzz.targets import TARGETS

    unknown = sorted(set(given.targets) - set(TARGETS))
    if unknown:
        parser.error(f"no target {', '.join(unknown)}; there are {', '.join(TARGETS)}")
    failed = []
    for name in given.targets or TARGETS:
        folder = CORPUS / name
        folder.mkdir(parents=True, exist_ok=True)
        for seed in TARGETS[name].seeds:
            (folder / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)
        command = [sys.executable, "-m", "tests.core.fuzz", "--child", name]
        done = subprocess.run(
            [*command, "--seconds", str(given.seconds)], cwd=ROOT, check=False,
            capture_output=True, text=True,
        )  # fmt: skip
        lines = [line for line in done.stderr.splitlines() if line.startswith("Done")]
        kept = len(list(folder.iterdir()))
        if done.returncode:
            failed.append(name)
            print(f"{name:14} FAILED\n{done.stderr[-4000:]}")
        else:
            print(f"{name:14} {lines[-1] if lines else 'ran'}; {kept} inputs in {folder.name}")
    return len(failed)


def _fuzz(name: str, seconds: int) -> None:
    import atheris

    with atheris.instrument_imports(include=["whimbrel_core", "zipfile"]):
        from tests.core.fuzz.targets import TARGETS
    target = TARGETS[name]
    folder = CORPUS / name
    arguments = [
        sys.argv[0], str(folder), f"-max_total_time={seconds}", f"-rss_limit_mb={MEMORY_MIB}",
        f"-max_len={LONGEST}", "-timeout=10", f"-artifact_prefix={folder}/", "-print_final_stats=0",
    ]  # fmt: skip
    atheris.Setup(arguments, lambda data: target(data) and None)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
