# Everything runs in .venv, made from requirements.lock; nothing needs to be installed by hand but Python 3.11+.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.DEFAULT_GOAL := help
.PHONY: help setup demo test chaos bench-batch bench-drift check format lock clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY)  ## make .venv with the locked dependencies

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Tamiz needs Python 3.11 or newer; say PYTHON=... to make")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check "$$(grep -m1 -o '^uv==[0-9.]*' requirements.lock)"
	$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

demo: setup  ## everything end to end: a champion, 20,000 transactions, drift, retraining, swap
	$(BIN)/tamiz demo

test: setup check  ## all checks and all tests, on a real Kafka broker
	$(BIN)/pytest

bench-drift: setup  ## how seldom the drift detector is wrong and how soon it hears, beside rules and river (10 minutes)
	$(BIN)/python -m benchmarks.drift

bench-batch: setup  ## a million rows through `tamiz score` on one core, beside pandas
	$(BIN)/python -m benchmarks.batch_scoring

chaos: setup  ## workers killed, paused and cut off under load; prints the balance (`python -m chaos --help`)
	$(BIN)/python -m chaos storm
	$(BIN)/python -m chaos matrix

check: setup  ## ruff, mypy strict, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: setup  ## let ruff rewrite what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: setup  ## resolve the dependencies of pyproject.toml anew into requirements.lock
	$(BIN)/uv pip compile --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11 --group dev pyproject.toml -o requirements.lock

clean:  ## remove .venv and every cache
	rm -rf .venv .tamiz .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
