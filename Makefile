# Two commands matter: `make run` and `make test`. Each sets up what it needs, from lock files with hashes.
PYTHON ?= python3
VENV   := .venv
PIP    := $(VENV)/bin/python -m pip --disable-pip-version-check --quiet
CONFIG ?= config/demo.yaml
RESULTS := var/tests.xml

.PHONY: run test test-long table lint bench lock clean

run: $(VENV)/.installed-run
	@exec $(VENV)/bin/threads-gateway serve --config $(CONFIG)

test: $(VENV)/.installed-test
	$(VENV)/bin/python -m pytest -n 3 -m "not long" --junitxml $(RESULTS)
	$(VENV)/bin/python -m tests.table --check $(RESULTS)

test-long: $(VENV)/.installed-test
	$(VENV)/bin/python -m pytest -n 2 --timeout 600 --junitxml $(RESULTS)
	$(VENV)/bin/python -m tests.table --check $(RESULTS)

# The README's tables: what works, from the last run of the tests, and what reaches a model.
table: $(VENV)/.installed-test
	$(VENV)/bin/python -m tests.table $(RESULTS)
	$(VENV)/bin/python -m tests.fields_table

lint: $(VENV)/.installed-test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy --strict gateway

bench: $(VENV)/.installed-test
	$(VENV)/bin/python tests/bench/forward.py
	$(VENV)/bin/python tests/bench/cache.py
	$(VENV)/bin/python tests/bench/limits.py
	$(VENV)/bin/python tests/bench/audit.py
	$(VENV)/bin/python tests/bench/model_apis.py
	$(VENV)/bin/python tests/bench/serve.py
	$(VENV)/bin/python tests/bench/audited.py

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed-run: $(VENV)/bin/python deploy/demo.lock pyproject.toml
	$(PIP) install --no-compile --require-hashes -r deploy/demo.lock
	$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed-run tests/requirements.lock
	$(PIP) install --no-compile --require-hashes -r tests/requirements.lock
	@touch $@

# New versions within pyproject.toml's bounds. The image's lock comes first, the others hold its versions; the lock of a
# program that is not ours stands alone.
COMPILE := --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --quiet --upgrade
lock: $(VENV)/bin/python
	$(PIP) install uv
	printf 'flit_core\n' | $(VENV)/bin/uv pip compile $(COMPILE) --extra foundry -o deploy/requirements.lock pyproject.toml -
	printf 'flit_core\n' | $(VENV)/bin/uv pip compile $(COMPILE) --extra demo -c deploy/requirements.lock -o deploy/demo.lock pyproject.toml -
	printf 'flit_core\n' | $(VENV)/bin/uv pip compile $(COMPILE) --all-extras -c deploy/requirements.lock -c deploy/demo.lock -o tests/requirements.lock pyproject.toml -
	for list in tests/*/*/requirements.in; do \
	  $(VENV)/bin/uv pip compile $(COMPILE) -o $${list%.in}.lock $$list || exit; done
	for list in tests/*/*/package.json; do \
	  npm update --package-lock-only --omit-lockfile-registry-resolved --prefix $$(dirname $$list) || exit; done

clean:
	rm -rf $(VENV) var .mypy_cache .ruff_cache .pytest_cache .hypothesis
