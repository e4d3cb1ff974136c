# `make run` and `make test` need Python >= 3.11, make and the package index; everything goes into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help venv run test test-all results lint bench clean

help:
	@echo "make run      the velocity_init study: about a minute on two cores"
	@echo "make test     the tests: a few minutes on two cores (make test-all: the slow ones too)"
	@echo "make results  the studies at full size, into results/NAME/reference"
	@echo "make lint     ruff and pyright"
	@echo "make bench    jaxexp beside hand-written JAX"
	@echo "make venv     only the virtual environment, .venv"

venv: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("jaxexp needs Python >= 3.11, $(PYTHON) is " + sys.version) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $$($(BIN)/python -c 'import sys; print("-c constraints.txt" if sys.version_info[:2] == (3, 11) else "")') -e '.[dev]'
	touch $(STAMP)

run: $(STAMP)
	$(BIN)/jaxexp run velocity_init

test: $(STAMP)
	$(BIN)/python -m pytest -q -n 2 --dist worksteal -m "not slow"

test-all: $(STAMP)
	$(BIN)/python -m pytest -q -n 2 --dist worksteal

results: $(STAMP)
	$(BIN)/python scripts/make_references.py

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

bench: $(STAMP)
	$(BIN)/jaxexp bench

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis
