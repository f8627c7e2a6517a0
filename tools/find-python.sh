#!/bin/sh
# Print the first Python that works and is new enough (3.11): the one asked for, or python3, or a
# python3.N beside it. A pyenv shim may be on PATH and still not start, so each one is tried.
enough='import sys; sys.exit(sys.version_info < (3, 11))'

for candidate in "${1:-python3}" ${1:-python3.11 python3.12 python3.13 python3.14}; do
  if command -v "$candidate" > /dev/null 2>&1 && "$candidate" -c "$enough" > /dev/null 2>&1; then
    echo "$candidate"
    exit 0
  fi
done

found=$("${1:-python3}" --version 2>&1 | head -n 1)
echo "error: Python 3.11 or newer is needed (${1:-python3}: ${found:-not there})" >&2
echo "hint:  on Debian: sudo apt-get install python3 python3-venv; or: make PYTHON=/path/to/python3" >&2
exit 1
