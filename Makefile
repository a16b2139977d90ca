# Two commands do all set-up: `make demo` and `make test`. Nothing is needed but Python >= 3.11.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo dist test chaos ray-versions duckdb-versions cluster-test FORCE docs lint types style imports bytecode bench bench-publish bench-guard bench-cluster clean

demo: $(VENV)/.installed
	$(BIN)/hygge samples/01_users_to_lake.yml

# The wheel, in dist/. hygge is on no package index: README.md, *Try it*.
dist: | $(BIN)/python
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .

# Six groups of tests at a time, since most wait for a server; the longest first (tests/conftest.py).
PYTEST := $(BIN)/python -m pytest -n 6
test: $(VENV)/.installed-test
	$(MAKE) --jobs=2 bytecode lint
	$(PYTEST)

# Once, beside the lint: the many processes of the tests would each compile hygge and the tests anew
# where PYTHONDONTWRITEBYTECODE is set. What cannot be collected is told by the tests themselves.
bytecode: $(VENV)/.compiled
	$(BIN)/python -m compileall -q hygge tests cluster
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --collect-only -qq >/dev/null || true
# pip would compile what it installs on one core, before anything else can begin.
$(VENV)/.compiled: $(VENV)/.installed-test
	$(BIN)/python -m compileall -qq -j 2 $(VENV)/lib || true
	touch $@

# `make chaos SEED=1 KILLS=200`: a quarter of an hour of SIGKILLs, then every point of a run, of every
# database, and of buckets, and the tests that are marked `only_in_chaos`.
SEED ?= 1
KILLS ?= 200
chaos: $(VENV)/.installed-test bytecode
	$(BIN)/python -m tests.crash.chaos --seed $(SEED) --kills $(KILLS)
	HYGGE_CRASH=all $(PYTEST) tests/crash \
	  tests/journal/test_state_in_a_bucket.py tests/cli tests/engine tests/examples \
	  tests/k8s tests/cluster tests/verify tests/test_shown_types.py tests/connectors

# The oldest and the newest Ray that pyproject.toml allows, each in an environment of its own. An older
# Ray leaves files open and calls what is deprecated, so warnings are no errors there.
RAY_VERSIONS ?= 2.52.1 2.60.0
ray-versions: $(RAY_VERSIONS:%=build/ray-%/.tested)
build/ray-%/.tested: FORCE
	$(PYTHON) -m venv build/ray-$*
	build/ray-$*/bin/python -m pip install --quiet --disable-pip-version-check -e '.[test]' 'ray[default]==$*'
	HYGGE_CRASH=all build/ray-$*/bin/python -m pytest -n 0 -m ray_versions -o filterwarnings=

# Likewise the oldest and the newest DuckDB.
DUCKDB_VERSIONS ?= 1.5.6 2.0.1
duckdb-versions: $(DUCKDB_VERSIONS:%=build/duckdb-%/.tested)
build/duckdb-%/.tested: FORCE
	$(PYTHON) -m venv build/duckdb-$*
	build/duckdb-$*/bin/python -m pip install --quiet --disable-pip-version-check -e '.[test]' 'duckdb==$*'
	build/duckdb-$*/bin/python -m pytest -n 0 tests/connectors/duckdb
FORCE:

# Three hosts in namespaces (root, Linux); a quarter of an hour. `make cluster-test SF=0.1`.
SF ?= 1
cluster-test: $(VENV)/.installed-test $(VENV)/.installed-bench
	$(BIN)/python -m tests.crash.three_hosts --sf $(SF)

# The site of README.md and docs/, to be opened without a network; needs npm.
docs: $(VENV)/.installed-docs
	$(BIN)/python docs/site.py

# Three targets, so that `make --jobs=2` has something to do beside mypy, which takes the longest.
lint: types style imports
types: $(VENV)/.installed-test
	$(BIN)/mypy
style: $(VENV)/.installed-test
	$(BIN)/ruff check .
imports: $(VENV)/.installed-test
	$(BIN)/lint-imports

# hygge and its peers on the same data: ten minutes, once the peers are installed; `make bench FULL=1` at
# full size, which takes hours and judges the bars. Each peer has an environment of its own.
bench: $(VENV)/.installed-bench
	$(BIN)/python -m benchmarks.suite $(if $(FULL),--scale 1 --rounds 3,--minutes 10)

# The figures of the last `make bench` into README.md and docs/, with a chart.
bench-publish: $(VENV)/.installed-bench
	$(BIN)/python -m benchmarks.suite.publish

# Two commits of hygge by CPU seconds: `make bench-guard BASE=main`.
bench-guard: $(VENV)/.installed-bench
	$(BIN)/python -m benchmarks.suite.guard --base $(BASE)

# How a cluster of many nodes, lanes and splits would do; about ten minutes.
bench-cluster: $(VENV)/.installed-bench
	$(BIN)/python benchmarks/scaling.py
	$(BIN)/python benchmarks/many_splits.py
	$(BIN)/python benchmarks/bucket_commit.py

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "hygge needs Python 3.11 or newer: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	touch $@

$(VENV)/.installed-test: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -e '.[test]'
	touch $@ $(VENV)/.installed

$(VENV)/.installed-docs: pyproject.toml $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[docs]'
	touch $@

$(VENV)/.installed-bench: benchmarks/requirements.txt $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r benchmarks/requirements.txt
	touch $@

clean:
	rm -rf $(VENV) benchmarks/.venvs build dist samples/out examples/out
