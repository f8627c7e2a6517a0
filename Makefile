UV := .venv/bin/uv
LOCK = $(UV) pip compile -q --universal --generate-hashes --no-emit-index-url --no-header \
  --no-annotate $(foreach part,core agent packager server,--no-emit-package whimbrel-$(part))
lock:
	$(LOCK) $(LOCKFLAGS) --python-version 3.10 requirements/build.in -o requirements/build.txt > /dev/null
	$(LOCK) $(LOCKFLAGS) --python-version 3.11 requirements/run.in -o requirements/run.txt > /dev/null
	$(LOCK) $(LOCKFLAGS) --python-version 3.11 requirements/dev.in -o requirements/dev.txt > /dev/null
	$(LOCK) $(LOCKFLAGS) --python-version 3.10 requirements/device.in -o requirements/device.txt > /dev/null
