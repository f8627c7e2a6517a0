"""Pin every dependency by version and hash: requirements/*.in and the parts become *.txt.

The lock files hold for every Python from the oldest on and for every platform, and name no
package index. Versions stay as they are unless ``--upgrade`` or ``--upgrade-package NAME`` is
given (anything else is handed on to ``uv pip compile``, too).
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# In the order of their constraints, with the oldest Python of each.
LOCKS = {"build": "3.10", "run": "3.11", "dev": "3.11", "device": "3.10", "networks": "3.11",
         "fuzz": "3.11", "peers": "3.11"}  # fmt: skip
PARTS = ("core", "agent", "packager", "server")


def main(arguments: list[str]) -> int:
    """Write the lock files, or stop at the first that cannot be resolved."""
    for name, python in LOCKS.items():
        command = [str(Path(sys.executable).with_name("uv")), "pip", "compile", "--quiet"]
        command += ["--universal", "--python-version", python, "--generate-hashes"]
        command += ["--no-emit-index-url", "--no-header", "--no-annotate"]
        for part in PARTS:
            command += ["--no-emit-package", f"whimbrel-{part}"]  # installed in place
        command += [f"requirements/{name}.in", "-o", f"requirements/{name}.txt", *arguments]
        if subprocess.run(command, check=False, cwd=ROOT, stdout=subprocess.DEVNULL).returncode:
            print(f"error: requirements/{name}.in cannot be resolved", file=sys.stderr)
            return 1
        print(f"requirements/{name}.txt")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
