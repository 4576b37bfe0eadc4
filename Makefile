# Everything sets itself up in .venv on a fresh clone; `make help` lists the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

.PHONY: help demo test test-slow check format clean

help:  ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/:/'

demo: $(VENV)/installed  ## Track a scripted street into runs/demo, offline
	$(BIN)/python demos/demo.py

test: $(VENV)/installed  ## Run the tests: two at a time, then those that measure time alone
	$(BIN)/pytest -n 2 --dist loadfile -m 'not slow and not alone'
	$(BIN)/pytest -m 'alone and not slow'

test-slow: $(VENV)/installed  ## Run the long tests too
	$(BIN)/pytest -m ''

check: $(VENV)/installed  ## Lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/installed  ## Format and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## Remove the environment and the runs
	rm -rf $(VENV) runs

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) hatchling editables
	$(PIP) --no-build-isolation --editable '.[parquet,supervision,eval,train,demo,dev]'
	touch $@
