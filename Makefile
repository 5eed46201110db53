# Everything runs in .venv, made from requirements.lock; nothing needs to be installed by hand but Python 3.11+.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
# One process more than cores, for tests wait for brokers and for other processes; tests/conftest.py puts long files first.
PYTEST = $(BIN)/pytest -n $$($(BIN)/python -c 'import os; print(min(os.cpu_count() + 1, 4))') --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help setup demo test coverage docs reference airflow chaos audit bench profile bench-batch bench-drift pictures check format digests lock clean

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

test: setup check  ## all checks and all tests, on real Kafka brokers (14 minutes on two cores)
	$(PYTEST)

coverage: setup  ## the tests, with coverage.xml and junit.xml for SonarQube (14 minutes)
	$(PYTEST) --junitxml junit.xml --cov-report xml:coverage.xml --cov-report term \
		--cov schemas --cov scoring --cov monitoring --cov training --cov stream_app --cov tamiz

docs: setup  ## the documentation as pages, in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

reference: setup  ## docs/reference/, written anew from the code
	$(BIN)/python -m docs.generate

pictures: setup  ## the page's two pictures in docs/images/, from a real run of the demo (3 minutes)
	$(BIN)/python -m benchmarks.screenshots

bench-drift: setup  ## how seldom the drift detector is wrong and how soon it hears, beside rules and river (10 minutes)
	$(BIN)/python -m benchmarks.drift.drift_benchmark

bench: setup .venv-bench/.ready  ## one topic through Tamiz and every peer; then latency, growth and the page (26 minutes)
	$(BIN)/python -m benchmarks.stream
	$(BIN)/python -m benchmarks.latency
	$(BIN)/python -m benchmarks.scaling
	$(BIN)/python -m benchmarks.dashboard_overhead

profile: setup .venv-bench/.ready  ## where a transaction's CPU time goes
	$(BIN)/python -m benchmarks.components.profile

# The peers' own dependencies stay out of .venv: what is served never needs them.
.venv-bench/.ready: requirements-bench.lock $(READY)
	$(PYTHON) -m venv .venv-bench
	$(BIN)/uv pip sync --quiet --python .venv-bench/bin/python --require-hashes requirements-bench.lock
	@touch $@

bench-batch: setup  ## a million rows through `tamiz score` on one core, beside pandas
	$(BIN)/python -m benchmarks.components.batch_scoring

airflow: .venv-airflow/.ready  ## the DAGs of deploy/airflow, loaded by a real Airflow
	.venv-airflow/bin/python -m pytest -c /dev/null --rootdir deploy/airflow -p no:cacheprovider -q deploy/airflow

# Airflow pins hundreds of packages; none of ours meets them.
.venv-airflow/.ready: requirements-airflow.lock $(READY)
	$(PYTHON) -m venv .venv-airflow
	$(BIN)/uv pip sync --quiet --python .venv-airflow/bin/python --require-hashes requirements-airflow.lock
	@touch $@

chaos: setup  ## workers killed, paused and cut off under load; prints the balance (`python -m chaos --help`)
	$(BIN)/python -m chaos run
	$(BIN)/python -m chaos matrix

audit: setup  ## known vulnerabilities among the locked dependencies; asks an advisory index
	@$(BIN)/uv tool run pip-audit --strict --disable-pip --require-hashes -r requirements.lock || { echo 'audit: found something, or pip-audit or its advisory index cannot be reached from here (see above)'; exit 1; }

check: setup  ## ruff, mypy strict, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: setup  ## let ruff rewrite what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

digests:  ## docker-compose.digests.yml, the images that compose pulls pinned by digest; asks Docker (docs/deployment.md)
	docker compose config --lock-image-digests > docker-compose.digests.yml.part
	mv docker-compose.digests.yml.part docker-compose.digests.yml

lock: setup  ## resolve the dependencies of pyproject.toml anew into requirements.lock
	$(BIN)/uv pip compile --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11 --all-extras --group dev pyproject.toml -o requirements.lock
	printf '%s\n' mlflow scikit-learn pandas nvidia-nccl-cu12 nvidia-nccl-cu13 > .venv/training-only.txt
	$(BIN)/uv pip compile --universal --generate-hashes --no-emit-index-url --no-header --no-annotate --python-version 3.11 --extra s3 --excludes .venv/training-only.txt -c requirements.lock pyproject.toml -o requirements-run.lock
	$(BIN)/uv pip compile --universal --generate-hashes --no-emit-index-url --no-header --no-annotate --python-version 3.11 --extra training --extra s3 -c requirements.lock pyproject.toml -o requirements-train.lock
	grep -E '^(msgspec|numpy|scipy|xgboost)==' requirements.lock | sed 's/ .$$//' > .venv/same.txt
	$(BIN)/uv pip compile --universal --generate-hashes --no-emit-index-url --no-header --no-annotate --python-version 3.11 --group bench -c .venv/same.txt -o requirements-bench.lock
	$(BIN)/uv pip compile --universal --generate-hashes --no-emit-index-url --no-header --no-annotate --python-version 3.11 --group airflow -o requirements-airflow.lock
	$(BIN)/uv pip compile --universal --generate-hashes --no-deps --no-emit-index-url --no-header --no-annotate --python-version 3.11 --group registry -o requirements-registry.lock

clean:  ## remove .venv and every cache
	rm -rf .venv .tamiz .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
