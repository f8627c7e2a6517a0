# Whimbrel. `make` lists the targets. Everything is set up on its own, once, in $(VENV).
#
#   ARGS     is handed on: make demo ARGS=--once, make test ARGS="tests/core -k wire"
#   PYTHON   the Python that environments are made with (3.11 or newer)
#   VENV     where the environment is

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

VENV ?= .venv
PYTHON ?=
ARGS ?=
bin := $(VENV)/bin
parts := core agent packager server
code := $(foreach part,$(parts),$(part)/whimbrel_$(part)) tests tools $(wildcard examples benchmarks)

setup = @python="$$(sh tools/find-python.sh $(PYTHON))" && \
  exec "$$python" tools/environment.py $(1) --venv $(VENV)

setup_other = @python="$$(sh tools/find-python.sh $(PYTHON))" && \
  "$$python" tools/environment.py $(1) --venv .venv-$(1)

.PHONY: help setup-run setup-dev demo test check format bench peers docs fuzz campaign lock clean

help: ## list the targets
	@echo "Whimbrel: models from a build machine to a fleet of devices, watched there."
	@echo
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | while IFS="$$(printf '\t')" read -r name text; \
	  do printf '  make %-10s %s\n' "$$name" "$$text"; done
	@echo
	@echo "ARGS=... is handed on: make test ARGS=\"tests/core -k wire\""

demo: setup-run ## set up, and run the whole story on real flights (ARGS=--once to end by itself)
	@$(bin)/python -m examples.flights $(ARGS)

test: setup-dev ## set up, and run every tier of tests; the last lines name what did not run
	@$(bin)/python tools/run_tests.py $(ARGS)

check: setup-dev ## lint, formatting, types, direction of imports, generated pages
	@$(bin)/python tools/check.py $(code)

format: setup-dev ## format the code, and repair what ruff can
	@$(bin)/ruff check --fix-only --quiet . && $(bin)/ruff format .

bench: setup-dev ## run benchmarks/ (ARGS="profile serving" chooses)
	@$(bin)/python tools/bench.py $(ARGS)

peers: ## set up what benchmarks compare us with, in .venv-peers (2 GB; Python 3.11 or 3.12)
	$(call setup_other,peers)

docs: setup-dev ## write the generated pages: docs/reference
	@$(bin)/python tools/docs.py

fuzz: ## feed every reader of foreign bytes what a fuzzer finds (ARGS="bundle --seconds 600")
	$(call setup_other,fuzz)
	@.venv-fuzz/bin/python -m tests.core.fuzz $(ARGS)

campaign: setup-dev ## the tests' laws with many more examples, and what is marked as a campaign
	@$(bin)/python tools/run_tests.py --campaign -o timeout=3600 $(or $(ARGS),tests)

lock: setup-dev ## pin the dependencies anew (ARGS=--upgrade for newer versions)
	@$(bin)/python tools/lock.py $(ARGS)

clean: ## remove environments, caches and what a build left
	rm -rf $(VENV) $(VENV).lock $(foreach env,3.10 networks fuzz peers,.venv-$(env) .venv-$(env).lock) build $(foreach part,$(parts),$(part)/dist)
	rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find $(code) -name __pycache__ -type d -prune -exec rm -rf {} +

setup-run:
	$(call setup,run)

setup-dev:
	$(call setup,dev)
