# `make demo` runs the main job, `make test` everything that is checked. Both install what they need into .venv first,
# and need nothing before but make and Python 3.11 or newer.

VENV := .venv
BIN := $(VENV)/bin
# The first Python that really runs and is new enough; 3.11 first, since the optional Blender module is built for it.
PYTHON ?= $(shell for python in python3.11 python3 python3.12 python3.13 python3.14; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
REQUIREMENTS := setup.py pyproject.toml constraints.txt neuralusd/_version.py
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test lint schema extension clean

demo: $(VENV)/.installed-core
	$(BIN)/neuralusd demo --output out/demo

test: lint
	$(BIN)/python -m pytest -n 2

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/mypy

schema: $(VENV)/.installed-test
	$(BIN)/python usdschemas/generate.py

extension: $(VENV)/.installed-core
	$(BIN)/python blender_addon/build.py --output out

clean:
	rm -rf $(VENV) build out *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "neuralusd needs Python 3.11 or newer; none runs here. Name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "$(PYTHON) cannot make a virtual environment; on Debian: apt install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed-core: $(BIN)/python $(REQUIREMENTS)
	$(INSTALL) --editable .
	@touch $@

$(VENV)/.installed-test: $(BIN)/python $(REQUIREMENTS)
	$(INSTALL) --editable '.[test,blender,train,datasets,text]'
	@touch $@ $(VENV)/.installed-core
