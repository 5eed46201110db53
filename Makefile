# Everything runs in .venv, created from requirements.lock. Only Python 3.11 or newer must be installed.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
# One process more than cores, because tests wait for brokers and child processes. tests/conftest.py starts long files first.
PYTEST = $(BIN)/pytest -n $$($(BIN)/python -c 'import os; print(min(os.cpu_count() + 1, 4))') --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help setup demo test fuzz-values coverage docs reference look-alikes airflow chaos audit bench bench-smoke bench-endurance bench-profiles bench-profile-memory profile bench-batch bench-file-profiles bench-drift bench-rare-fraud bench-rules fuzz-files fuzz-batches fuzz-declarations fuzz-rules pictures check format digests lock clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY)  ## create .venv with the locked dependencies

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Tamiz needs Python 3.11 or newer; run make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check "$$(grep -m1 -o '^uv==[0-9.]*' requirements.lock)"
	$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

demo: setup  ## run everything end to end: train, score 20,000 transactions, drift, retrain, swap the model
	$(BIN)/tamiz demo

test: setup check  ## run all checks and all tests, on real Kafka brokers (14 minutes on two cores)
	$(PYTEST)

fuzz-values: setup  ## 200,000 numbers, booleans, ids, times and payloads each, compared with slow reference parsers (5 minutes)
	$(BIN)/python -m tests.helpers.reference_parsers 200000
	$(BIN)/python -m tests.helpers.reference_times 200000
	$(BIN)/python -m tests.helpers.payload_differences 200000

coverage: setup  ## run the tests, write coverage.xml and junit.xml for SonarQube (14 minutes)
	$(PYTEST) --junitxml junit.xml --cov-report xml:coverage.xml --cov-report term \
		--cov schemas --cov scoring --cov monitoring --cov training --cov stream_app --cov tamiz

docs: setup  ## build the documentation site in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

reference: setup  ## generate docs/reference/ from the code
	$(BIN)/python -m docs.generate

pictures: setup  ## take the dashboard's screenshots in docs/images/ during a real demo run (3 minutes)
	$(BIN)/python -m benchmarks.screenshots

bench-drift: setup  ## measure false alarms and delay of the drift detector, compared with threshold rules and river (10 minutes)
	$(BIN)/python -m benchmarks.drift.drift_benchmark

bench: setup .venv-bench/.ready  ## measure throughput, CPU and latency of Tamiz and its peers, and the handler's costs (30 minutes)
	-$(BIN)/python -m benchmarks.handler_costs
	-$(BIN)/python -m benchmarks.stream
	$(BIN)/python -m benchmarks.scaling_page

bench-smoke: setup .venv-bench/.ready  ## check the ratios that must not slip; informs, never fails (MINUTES=3)
	$(BIN)/python -m benchmarks.smoke --minutes $(or $(MINUTES),3)

bench-endurance: setup .venv-bench/.ready  ## memory, p99.9 and every pause at 2,000/s (MINUTES=60)
	$(BIN)/python -m benchmarks.endurance --minutes $(or $(MINUTES),60)

bench-profiles: setup  ## measure what profiles add on held-out days, and compare a worker's decisions with the file's scores (5 minutes)
	$(BIN)/python -m benchmarks.profile_gain

profile: setup .venv-bench/.ready  ## profile the CPU time of a transaction
	$(BIN)/python -m benchmarks.components.profile

# The peers' dependencies are in a virtual environment of their own: Tamiz does not need them.
.venv-bench/.ready: requirements-bench.lock $(READY)
	$(PYTHON) -m venv .venv-bench
	$(BIN)/uv pip sync --quiet --python .venv-bench/bin/python --require-hashes requirements-bench.lock
	@touch $@

bench-profile-memory: setup  ## measure the memory of the profiles of a million cards
	$(BIN)/python -m benchmarks.components.profile_memory

bench-batch: setup  ## measure `tamiz score` on a million rows and one core, compared with pandas
	$(BIN)/python -m benchmarks.components.batch_scoring

bench-rare-fraud: setup  ## compare ways to fit models to rare fraud: rounds, refit, trees (20 minutes)
	$(BIN)/python -m benchmarks.components.rare_fraud

bench-rules: setup .venv-bench/.ready  ## measure a hundred rules beside zen-engine and rule-engine
	.venv-bench/bin/python -m benchmarks.rules.rule_engines

bench-file-profiles: setup  ## measure the profiles of a file: 1,750,000 rows, 20 features, one core
	$(BIN)/python -m benchmarks.components.file_profiles

look-alikes: setup  ## declare, train and score look-alikes of five public data sets (1 minute)
	TAMIZ_LOOK_ALIKES="paysim sparkov tabformer ulb ieee" $(BIN)/pytest -q tests/unit/training/declaration/test_look_alikes.py

fuzz-files: setup  ## 5,000 generated tables, each read as CSV, Parquet, JSON lines and from the topic (3 minutes)
	TAMIZ_FUZZ_TABLES=5000 $(BIN)/pytest -q tests/unit/tamiz/test_containers.py

fuzz-batches: setup  ## 100,000 fetches of valid and hostile record batches, read as columns and record by record (10 minutes)
	TAMIZ_FUZZ_FETCHES=100000 $(BIN)/pytest -q tests/unit/stream_app/kafka/test_record_columns.py

fuzz-declarations: setup  ## 100,000 mutated declarations: each is valid, or one line of a SchemaError (5 minutes)
	TAMIZ_FUZZ_DECLARATIONS=100000 $(BIN)/pytest -q tests/unit/schemas/test_profile_checks.py -k schema_error

fuzz-rules: setup  ## 100,000 conditions of rules, valid and hostile: parsed, compiled, compared with an interpreter (5 minutes)
	TAMIZ_FUZZ_RULES=100000 $(BIN)/pytest -q tests/unit/scoring/rules

airflow: .venv-airflow/.ready  ## test the DAGs of deploy/airflow in a real Airflow
	.venv-airflow/bin/python -m pytest -c /dev/null --rootdir deploy/airflow -p no:cacheprovider -q deploy/airflow

# A virtual environment of its own: Airflow's pinned versions conflict with ours.
.venv-airflow/.ready: requirements-airflow.lock $(READY)
	$(PYTHON) -m venv .venv-airflow
	$(BIN)/uv pip sync --quiet --python .venv-airflow/bin/python --require-hashes requirements-airflow.lock
	@touch $@

chaos: setup  ## kill, pause and disconnect workers under load; check that no decision is lost (`python -m chaos --help`)
	$(BIN)/python -m chaos run
	$(BIN)/python -m chaos matrix

audit: setup  ## check the locked dependencies for known vulnerabilities (needs an advisory index)
	@$(BIN)/uv tool run pip-audit --strict --disable-pip --require-hashes -r requirements.lock || { echo 'audit: vulnerabilities found, or pip-audit or its advisory index is unreachable (see above)'; exit 1; }

check: setup  ## run ruff, mypy (strict) and import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: setup  ## apply ruff's fixes and formatting
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

digests:  ## write docker-compose.digests.yml, which pins images by digest; needs Docker (docs/deployment.md)
	docker compose config --lock-image-digests > docker-compose.digests.yml.part
	mv docker-compose.digests.yml.part docker-compose.digests.yml

lock: setup  ## resolve the dependencies of pyproject.toml into the lock files
	$(BIN)/uv pip compile --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11 --all-extras --group dev pyproject.toml -o requirements.lock
	printf '%s\n' mlflow scikit-learn pandas nvidia-nccl-cu12 nvidia-nccl-cu13 > .venv/training-only.txt
	$(BIN)/uv pip compile --universal --generate-hashes --no-emit-index-url --no-header --no-annotate --python-version 3.11 --extra s3 --excludes .venv/training-only.txt -c requirements.lock pyproject.toml -o requirements-run.lock
	$(BIN)/uv pip compile --universal --generate-hashes --no-emit-index-url --no-header --no-annotate --python-version 3.11 --extra training --extra s3 -c requirements.lock pyproject.toml -o requirements-train.lock
	grep -E '^(msgspec|numba|numpy|scipy|xgboost|xxhash)==' requirements.lock | sed 's/ .$$//' > .venv/same.txt
	$(BIN)/uv pip compile --universal --generate-hashes --no-emit-index-url --no-header --no-annotate --python-version 3.11 --group bench -c .venv/same.txt -o requirements-bench.lock
	$(BIN)/uv pip compile --universal --generate-hashes --no-emit-index-url --no-header --no-annotate --python-version 3.11 --group airflow -o requirements-airflow.lock
	$(BIN)/uv pip compile --universal --generate-hashes --no-deps --no-emit-index-url --no-header --no-annotate --python-version 3.11 --group registry -o requirements-registry.lock

clean:  ## remove .venv and all caches
	rm -rf .venv .tamiz .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
