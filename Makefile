# make setup | test | long | chaos | mutants | bench | demo | check | format | helm | requirements | clean
# Needs a Python of 3.11 or newer and nothing else; PYTHON=... names one.

MAKEFLAGS += --no-print-directory
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet --no-input
export PYTHON

.PHONY: setup test long chaos mutants bench demo check format helm requirements clean

setup: .venv/installed

test: check helm
	@$(BIN)/pytest -n 2 $(ARGS)

long: setup # what needs longer than `make test` may take, or other people's tools
	@TODOKE_LONG=1 $(BIN)/pytest -m long $(ARGS)

chaos: setup # ARGS="--seed 7 --events 100000 --kills 20", or ARGS=--matrix
	@$(BIN)/python -m tests.faults.chaos $(ARGS)

mutants: setup # ARGS names some of them
	@$(BIN)/python -m tests.faults.mutate $(ARGS)

demo: setup
	@$(BIN)/todoke demo $(ARGS)

bench: setup .tools/bench/installed # ARGS=--quick, or ARGS=dispatch, or ARGS=ledger
	@$(BIN)/python -m bench $(ARGS)

check: setup
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . || { echo "make format mends most of this"; exit 1; }
	@$(BIN)/mypy
	@said=$$($(BIN)/lint-imports --no-logo) && echo "$$said" | tail -n 1 || { echo "$$said"; exit 1; }

format: setup
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

helm: setup
	@$(BIN)/python helm/check

requirements: # ARGS=--upgrade lifts the pins
	@$(or $(PYTHON),python3.11) .ci/requirements $(ARGS)

clean:
	rm -rf .venv dist build .*_cache .hypothesis .coverage* .tools/pip-tools*
	find streams schemas processors sinks tests helm -name __pycache__ -prune -exec rm -rf {} +

# The stamps are touched last, so that an interrupted installation is done again.
.venv/installed: .venv/pinned pyproject.toml
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@
	@echo "ready: $(BIN)/todoke, with $$($(BIN)/python -V)"

.tools/bench/installed: bench/requirements.txt
	@echo "installing the rivals into .tools/bench"
	@$(BIN)/python -m venv --clear .tools/bench
	@.tools/bench/bin/python -m pip --disable-pip-version-check --quiet --no-input install --require-hashes --requirement $<
	@touch $@

.venv/pinned: requirements.txt requirements-dev.txt
	@$(BIN)/python -m pip --version >/dev/null 2>&1 && PYTHON=$(BIN)/python .ci/python >/dev/null 2>&1 || { \
	  python=$$(.ci/python) || exit 1; \
	  echo "making .venv with $$python"; \
	  "$$python" -m venv --clear .venv || { rm -rf .venv; echo "$$python can't (Debian, Ubuntu: apt install python3-venv)"; exit 1; }; }
	@echo "installing the pinned requirements into .venv: about a minute"
	@$(PIP) install --require-hashes --requirement requirements-dev.txt
	@touch $@
