# Two commands on a fresh machine: `make demo` and `make test`. Both make .venv first.
# `make test-formats` tests the converters of the other formats, each in an environment of its own.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
LITERT := .venv-litert
EXECUTORCH := .venv-executorch

.PHONY: demo test test-formats lint types

demo: $(STAMP)
	$(BIN)/fedlite simulate

test: $(STAMP) lint types
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --ignore tests/formats

test-formats: $(STAMP) $(LITERT)/.installed $(EXECUTORCH)/.installed
	OMP_NUM_THREADS=1 \
	FEDLITE_LITERT_PYTHON=$(CURDIR)/$(LITERT)/bin/python \
	FEDLITE_EXECUTORCH_PYTHON=$(CURDIR)/$(EXECUTORCH)/bin/python \
	$(BIN)/python -m pytest -n 2 --dist loadfile tests/formats

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache

types: $(STAMP)
	$(BIN)/mypy

# torch first, everywhere: on Linux an open range would take a build with gigabytes of CUDA packages.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "fedlite needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[ray,dev]'
	touch $(STAMP)

# The converters' environments hold no fedlite: it runs its workers in them (docs/deploy-student.md).
$(LITERT)/.installed: constraints-litert.txt
	$(PYTHON) -m venv $(LITERT)
	$(LITERT)/bin/python -m pip install --quiet --constraint $< torch
	$(LITERT)/bin/python -m pip install --quiet --constraint $< litert-torch
	touch $@

$(EXECUTORCH)/.installed: constraints-executorch.txt
	$(PYTHON) -m venv $(EXECUTORCH)
	$(EXECUTORCH)/bin/python -m pip install --quiet --constraint $< torch
	$(EXECUTORCH)/bin/python -m pip install --quiet --constraint $< executorch coremltools
	touch $@
