# Two commands do everything on a fresh machine: `make demo` and `make test`. Both make .venv first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
NODE := tests/node/node_modules
# Seconds that `make demo` runs for.
DURATION ?= 40
# Seconds that `make fuzz` gives each target, and which of them: wire, config, checkpoint.
FUZZ_SECONDS ?= 180
FUZZ_TARGETS ?=
# More arguments for pytest, such as ARGS="-k rtsp -x".
ARGS ?=
# Processes that share the test files.
JOBS ?= 2

.DEFAULT_GOAL := help
.PHONY: help setup demo test check docs bench faults fuzz clean system-test node

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP)  ## Make .venv and install the package with its development tools

demo: $(STAMP)  ## Live recognition of synthetic scenes, shown against the truth (DURATION=40 seconds)
	$(BIN)/stream-i3d demo --duration $(DURATION)

test: $(STAMP) node  ## Run the tests (ARGS="-k name" for some of them, JOBS=0 for one process)
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

# scripts/rtsp-server has no suffix, so the tools must be told that it is Python.
check: $(STAMP)  ## Lint, format, types, which module may import which, and the documentation's links
	$(BIN)/ruff check . scripts/rtsp-server
	$(BIN)/ruff format --check . scripts/rtsp-server
	$(BIN)/mypy
	$(BIN)/mypy scripts/rtsp-server
	$(BIN)/lint-imports
	$(MAKE) --no-print-directory docs

docs: $(STAMP)  ## Build the documentation as a site, in build/docs; a warning is an error
	$(BIN)/sphinx-build -q -W --keep-going -b html docs build/docs

bench: $(STAMP)  ## Run every scripts/bench_*.py
	@set -e; for bench in scripts/bench_*.py; do echo "== $$bench"; $(BIN)/python $$bench; done

fuzz: $(STAMP)  ## Throw mutated messages, configurations and checkpoints at their readers (FUZZ_SECONDS=180 each)
	@$(BIN)/python -c 'import atheris' 2>/dev/null || $(BIN)/python -m pip install -q -c constraints.txt -e '.[fuzz]'
	$(BIN)/python scripts/fuzz.py --seconds $(FUZZ_SECONDS) $(FUZZ_TARGETS)

faults: $(STAMP) system-test  ## Make every fault of docs/faults.md and see what becomes of it (ARGS="--short")
	$(BIN)/python scripts/faults.py $(ARGS)

clean:  ## Remove caches and what the tests left; .venv stays (rm -rf .venv)
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache $(NODE)
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

# What cannot be installed here is said, with the command that does it, and the tests that need it are skipped.
# In CI (CI=true) nothing may be skipped, so there it is an error.
OR_FAIL_IN_CI := || test "$$CI" != true

# Installed again only when what is asked for changes.
$(STAMP): pyproject.toml constraints.txt
	@PYTHON=$(PYTHON) scripts/system-deps runtime $(OR_FAIL_IN_CI)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "$(PYTHON) is missing or older than Python 3.11; try: make PYTHON=python3.12" >&2; exit 2; }
	@echo "making $(VENV); torch alone is some 200 MB, so this may take minutes"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	@touch $@

system-test:
	@PYTHON=$(PYTHON) scripts/system-deps test $(OR_FAIL_IN_CI)

node: $(NODE)/.installed

# zeromq's package carries its binaries: no compiler is needed, and its install script need not run.
$(NODE)/.installed: tests/node/package.json | system-test
	@(cd tests/node && npm install --silent --no-audit --no-fund --no-package-lock --ignore-scripts && touch ../../$@) || \
	    { echo "npm could not install tests/node: the tests that need it are skipped" >&2; false; } $(OR_FAIL_IN_CI)
