# Each target does its own set-up: a virtual environment in .venv, and what is missing of the system packages.
#   make run [PRESET=demo|debug]   the main job: from demonstrations to a promoted, served policy
#   make test                      lint, types, import contracts and tests
#   make lint | soak | clean
SHELL := /bin/bash
PRESET ?= demo
ARGS ?=
# Tests run in two processes when there are two cores or more; each process keeps to one thread of arithmetic.
WORKERS ?= $(shell n=$$(nproc 2>/dev/null || echo 1); echo $$(( n > 2 ? 2 : n )))
PYTHON := .venv/bin/python

export DVC_NO_ANALYTICS := 1
export GX_ANALYTICS_ENABLED := false
export MLFLOW_DISABLE_TELEMETRY := true
export DO_NOT_TRACK := true
export HF_HUB_OFFLINE := 1
export PYTHONUNBUFFERED := 1

.PHONY: run test lint soak clean set-up-run set-up-dev
.DEFAULT_GOAL := run

set-up-run:
	@.ci/bootstrap.sh run

set-up-dev:
	@.ci/bootstrap.sh dev

run: set-up-run
	@$(PYTHON) -m pipelines.cli run demonstrations_to_policy --preset $(PRESET) $(ARGS)

lint: set-up-dev
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy
	.venv/bin/lint-imports

test: lint
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

soak: set-up-dev
	$(PYTHON) -m pytest -m soak $(ARGS)

clean:
	rm -rf .venv build *.egg-info .pytest_cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache
