# `make` lists the targets. NAME=... and ARGS=... are passed on where a target says so.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help install up demo test test-quick test-long mutations lint bench stubs typescript release-api tools whatsapp-web lock clean

PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
BIN := .venv/bin
# Tests run in so many lanes (tests/support/lanes.py); LANES=0 is one by one in pytest's own process, as a debugger wants it.
LANES ?= 3
# The tests' bytecode is kept, whatever the environment says of bytecode: making it is half of what collecting costs.
PYTEST := PYTHONDONTWRITEBYTECODE= $(BIN)/pytest -q -n $(LANES) --max-worker-restart=0
LONG_FAULTS := MESH_FAULT_SEEDS=$${MESH_FAULT_SEEDS:-20} MESH_FAULT_OUTAGE_SECONDS=$${MESH_FAULT_OUTAGE_SECONDS:-60} \
	MESH_FAULT_CLOCK_STEP_SECONDS=$${MESH_FAULT_CLOCK_STEP_SECONDS:-3600}
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate
# Only a mesh with that driver has to wait for Go.
WHATSAPP_WEB := $(if $(findstring whatsapp_web,$(ARGS)),whatsapp-web)
# Folders too: a deleted .proto changes only its folder.
PROTOS := $(shell find protos -name '*.proto' -o -type d)

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

install: $(BIN)/.installed ## Make .venv with everything in it; quick when nothing changed
	@:

up: install $(WHATSAPP_WEB) ## Run a whole mesh on this machine until Ctrl-C; ARGS="--nodes 3"
	@$(BIN)/mesh up $(ARGS)

demo: install $(WHATSAPP_WEB) ## Show the mesh at work and check what it shows; ARGS="--json FILE"
	@$(BIN)/mesh demo $(ARGS)

whatsapp-web: install ## Build what real accounts run on, the sidecar of linked devices, and its test network; needs Go
	@deploy/tools/build-go

test: install $(if $(shell command -v go),whatsapp-web) ## Run the tests that every change must pass; ARGS="-k name" for some
	@$(PYTEST) -m "not long" --durations=15 $(ARGS)

test-quick: install ## Run the quick tests: one service at a time, no whole mesh, no other language
	@$(PYTEST) -m quick $(or $(ARGS),$(addprefix tests/,unit properties contract integration))

test-long: install ## Run faults as long as production may see them, and 20 random seeds; an hour
	@$(LONG_FAULTS) $(PYTEST) --durations=15 -m timed $(ARGS)

mutations: install ## Take out each guard in a copy of the tree and show that a test fails; NAME=word for some
	@$(BIN)/python -m tests.mutations $(NAME)

lint: install ## Check format, style, types, layers and protos; quiet when all is well
	@$(BIN)/ruff format --quiet --check --diff .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports --no-logo >.venv/imports.log 2>&1 || { cat .venv/imports.log; exit 1; }
	@$(BIN)/python -m tests.layers >.venv/layers.log || { cat .venv/layers.log; exit 1; }
	@deploy/tools/lint-protos
	@$(BIN)/hadolint deploy/docker/Dockerfile

bench: install ## Run a benchmark: NAME=..., ARGS="--quick --json FILE"
	@$(BIN)/python -m bench $(NAME) $(ARGS)

stubs: install ## Generate client stubs for Python, Go and TypeScript into stubs/
	@deploy/tools/generate-stubs

typescript: install ## Build and pack the TypeScript client, clients/typescript; needs npm
	@deploy/tools/build-typescript

release-api: install ## Take the protos as they are for the released API, which lint holds later ones to; with a release only
	@deploy/tools/release-api

tools: ## Build the programs that tests and lint use into a cache outside the checkout
	@deploy/tools/build $(NAME)

lock: $(BIN)/.dependencies ## Resolve the dependencies of pyproject.toml anew into requirements.lock; ARGS="--upgrade"
	@$(LOCK) --group dev --extra servers --output-file requirements.lock $(ARGS) pyproject.toml
	@# What production gets is a part of that, at the same versions.
	@$(LOCK) --constraint requirements.lock --output-file deploy/docker/requirements.lock pyproject.toml

clean: ## Remove everything that was built here, and the development data
	@cd clients/typescript && rm -rf node_modules src/gen dist LICENSE *.tgz
	@rm -rf .venv gen gen-go stubs dist .state .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -prune -exec rm -rf {} +

$(BIN)/.dependencies: requirements.lock
	@test -n "$(PYTHON)" || { echo "install: Python 3.11 or newer is needed, and none is on PATH" >&2; exit 1; }
	@test -x $(BIN)/python || "$(PYTHON)" -m venv .venv
	@# uv comes from the lock file too, so that its hash is checked.
	@sed -n '/^uv==/,/[^\\]$$/p' requirements.lock >.venv/uv.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r .venv/uv.lock
	@# Compiled once here instead of at the first start of every process.
	@$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes --compile-bytecode requirements.lock
	@touch $@

$(BIN)/.installed: $(BIN)/.dependencies pyproject.toml hatch_build.py $(PROTOS)
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@$(BIN)/uv pip check --python $(BIN)/python >.venv/check.log 2>&1 || { cat .venv/check.log; \
		echo "install: requirements.lock does not fit pyproject.toml: run make lock" >&2; exit 1; }
	@$(BIN)/python -m compileall -q gen lib services clients cli simulator
	@touch $@
