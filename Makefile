# Two commands do all the set-up, on a fresh Debian or Ubuntu with Python 3.11 or newer:
#   make plan   creates .venv, installs perfmodel and ranks the hardware of the shipped example
#   make test   creates .venv with the development tools and passes the tests
# Only python3 with its venv module is needed beforehand (Debian: apt-get install python3-venv).

PYTHON ?= python3
VENV ?= .venv
SCENARIO ?= examples/chat-70b-h100.toml
BIN := $(VENV)/bin
CHROMIUM := $(shell command -v chromium || command -v chromium-browser || command -v google-chrome)
# Without a browser the one test that drives it is left out, and make says so.
MARKS := $(if $(CHROMIUM),,-m "not browser")

.PHONY: plan report test coverage lint docs pictures bench clean help

help: ## Say what each target does
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/'

plan: $(VENV)/.installed ## Rank the hardware of SCENARIO (default: a chat service on a 70B model)
	$(BIN)/perfmodel plan $(SCENARIO)

report: $(VENV)/.installed ## Write report.html for SCENARIO
	$(BIN)/perfmodel report $(SCENARIO) -o report.html

test: $(VENV)/.developer ## Pass the tests
	@if [ -z "$(CHROMIUM)" ]; then echo "no chromium found: the browser test is left out"; fi
	$(BIN)/python -m pytest $(MARKS) $(PYTEST_FLAGS)

coverage: $(VENV)/.developer ## Pass the tests and fail where they reach less than nine in ten lines
	$(BIN)/python -m pytest $(MARKS) -n 2 --cov=perfmodel --cov=search --cov=hwdb --cov-report= --cov-fail-under=90

lint: $(VENV)/.developer ## Run ruff (rules and format) and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.installed ## Bring the generated parts of docs/ up to date (not the measured pages)
	$(BIN)/python docs/reference.py
	$(BIN)/python tools/rooms_picture.py

pictures: $(VENV)/.installed ## Make the pictures of the README again
	$(BIN)/python tools/pictures.py

bench: $(VENV)/.developer ## Measure start-up time and memory of the command line
	$(BIN)/python -m benchmarks.cli

clean: ## Remove the environment and build output
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "perfmodel needs Python 3.11 or newer; name one with PYTHON=..."; exit 1; }
	@$(PYTHON) -m venv $(VENV) \
	  || { echo "no venv module; on Debian or Ubuntu: apt-get install python3-venv"; exit 1; }

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.developer: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $(VENV)/.installed $@
