# `make help` lists the targets. Everything installed goes into .venv; nothing else on the machine is touched.
#
#   PYTHON=/path/to/python3.12 make venv   uses that interpreter; otherwise the first 3.11 or newer on PATH is taken.
#   PATH_TO=~/notes make demo              runs the demo over other documents than the repository's own.

VENV    := .venv
BIN     := $(VENV)/bin
PATH_TO ?= .

# Of `make chaos`: how long, and which faults and tasks; a seed that is not given is drawn, and printed.
MINUTES ?= 5
SEED    ?=

# Of `make fuzz`, over all targets.
INPUTS ?= 100000

# What a caller has set for pip stays as it is.
export PIP_DISABLE_PIP_VERSION_CHECK ?= 1

# One stamp per set of requirements: the demo installs what users install, the checks add the tools.
USER_STAMP  := $(VENV)/.installed-all
DEV_STAMP   := $(VENV)/.installed-dev
BENCH_STAMP := $(VENV)/.installed-bench

# Tests without processes of their own, or with few.
SIDE_BY_SIDE := -n 2 tests/unit tests/contract tests/fuzz

# Tests that mostly wait for processes of their own: two files at a time, each with a cluster of its own.
BY_FILE := -n 2 --dist loadfile

# Run, not only found: a version manager's shim is on PATH also where its Python is missing.
SUITABLE := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help venv demo dev test test-compose constraints check lint audit fuzz format docs build bench bench-peers profile chaos test-upgrade clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-20s%s\n", $$1, $$2 }'

venv: $(DEV_STAMP) ## create .venv with every part and the tools for checks and tests

demo: $(USER_STAMP) ## run a local cluster over the documents in PATH_TO and watch the events come in
	@$(BIN)/tailplane demo "$(PATH_TO)"

dev: $(USER_STAMP) ## run a local cluster that restarts when the code changes
	@$(BIN)/tailplane dev

test: lint ## everything: the linters, then all tests
	@$(BIN)/pytest -m "not slow" $(SIDE_BY_SIDE)
	@$(BIN)/pytest $(BY_FILE) tests/chaos tests/examples tests/golden tests/integration
	@$(BIN)/pytest -m slow $(BY_FILE) tests/unit tests/contract

test-compose: $(DEV_STAMP) ## build and start the cluster of docker-compose.yml, kill and replace its containers under load (10 minutes; needs Docker)
	@$(BIN)/pytest -s tests/compose

constraints: $(DEV_STAMP) ## choose the packages in the container images anew
	@$(BIN)/python deploy/image_requirements.py --newest > deploy/constraints.txt.new
	@mv deploy/constraints.txt.new deploy/constraints.txt

check: lint ## the linters, the audit of dependencies, unit and contract tests: before each commit
	@$(BIN)/python deploy/audit.py --tolerant
	@$(BIN)/pytest -m "not slow" $(SIDE_BY_SIDE)

lint: $(DEV_STAMP) ## ruff, mypy and the import contracts
	@! ls */tailplane/__init__.py 2>/dev/null || { echo "A tailplane/__init__.py hides the other parts: delete it." >&2; exit 1; }
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

audit: $(DEV_STAMP) ## ask the package index for advisories against what is installed and what goes into the images
	@$(BIN)/python deploy/audit.py

fuzz: $(DEV_STAMP) ## throw INPUTS inputs at everything that reads what others send, and print what came out; SEED repeats a run
	@$(BIN)/python -m tests.fuzz --inputs $(INPUTS) $(if $(SEED),--seed $(SEED)) $(if $(REPORT),--report $(REPORT))

format: $(DEV_STAMP) ## let ruff sort imports, fix what it can and format
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

docs: $(DEV_STAMP) ## write docs/configuration.md anew from the source
	@$(BIN)/python -m tailplane.deploy.configuration > docs/configuration.md

build: $(DEV_STAMP) ## the sdist and the wheel, in dist/
	@$(BIN)/python -m build

bench: $(BENCH_STAMP) ## measure Tailplane beside a service written by hand and the machine's limits (40 minutes)
	@$(BIN)/python -m benchmarks run

bench-peers: $(BENCH_STAMP) ## the same with other systems, which install into environments of their own
	@$(BIN)/python -m benchmarks run --systems tailplane,by_hand,by_hand_batched,raw,llama_agents,llama_agents_sqlite,dbos

profile: $(BENCH_STAMP) ## flame graphs of the processes under load, in benchmarks/profiles
	@$(BIN)/python -m benchmarks.profile

chaos: $(DEV_STAMP) ## kill, stop, cut off and restart a fleet under load for MINUTES, and check every task; SEED repeats a run, STORE=cluster has three shards
	@$(BIN)/python -m tests.chaos --minutes $(MINUTES) $(if $(SEED),--seed $(SEED)) $(if $(TASKS),--tasks $(TASKS)) \
	    $(if $(KINDS),--kinds $(KINDS)) $(if $(STORE),--store $(STORE)) $(if $(REPORT),--report $(REPORT))

test-upgrade: $(DEV_STAMP) ## replace a fleet of the commit FROM by this tree's, under load, and check every task
	@$(BIN)/python -m tests.upgrade --from $(FROM)

clean: ## remove .venv, caches and dist/
	@rm -rf $(VENV) dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/pyvenv.cfg:
	@for python in $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11 python); do \
	    if "$$python" -c '$(SUITABLE)' >/dev/null 2>&1; then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	    echo "Tailplane needs CPython 3.11 or newer with its venv module, and found none on PATH." >&2; \
	    echo "On Debian and Ubuntu the module is the package python3-venv; PYTHON=/path/to/python names another one." >&2; \
	    exit 1; \
	fi; \
	"$$found" -m venv --clear $(VENV)

# -qq: errors only.
$(USER_STAMP): pyproject.toml | $(VENV)/pyvenv.cfg
	@echo "Installing Tailplane into $(VENV) (a minute, the first time) ..." >&2
	@$(BIN)/python -m pip install -qq -e '.[all]'
	@touch $@

$(DEV_STAMP): pyproject.toml | $(VENV)/pyvenv.cfg
	@echo "Installing Tailplane and its development tools into $(VENV) (a minute, the first time) ..." >&2
	@$(BIN)/python -m pip install -qq -e '.[all,dev]'
	@touch $(USER_STAMP) $@

$(BENCH_STAMP): pyproject.toml | $(VENV)/pyvenv.cfg
	@echo "Installing Tailplane and what measures it into $(VENV) (a minute, the first time) ..." >&2
	@$(BIN)/python -m pip install -qq -e '.[all,bench]'
	@touch $(USER_STAMP) $@
