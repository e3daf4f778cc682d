# Two commands for a fresh machine: `make demo` and `make test`. Everything else is a poe task (`.venv/bin/poe`).
# Needs Python 3.11 to 3.13, make and git. Both commands build their own .venv; the second time nothing is installed.

VENV   ?= .venv
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
STAMP  := $(VENV)/.installed
POE    := $(VENV)/bin/poe

.PHONY: demo test install up down clean
.DEFAULT_GOAL := help

help:
	@echo "make demo   environment, install, feature pipeline over the sample corpus, a search with its sources"
	@echo "make test   environment, install, lint, types, import contracts, the whole test suite"
	@echo "make up     the servers of docker-compose.yml (MongoDB, Qdrant); make down stops them"
	@echo "then        $(POE) lists every other task"

$(STAMP): pyproject.toml constraints.txt
	@echo "==> environment in $(VENV) with $(PYTHON)"
	@"$(PYTHON)" -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else "Python 3.11 to 3.13 is needed, this is " + sys.version.split()[0] + ": run make PYTHON=/path/to/python3.11")'
	@test -x $(VENV)/bin/python || "$(PYTHON)" -m venv $(VENV)
	@echo "==> installing the tested set of packages (minutes the first time)"
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt "torch==2.13.0" -e ".[dev]"
	@touch $(STAMP)

install: $(STAMP)

demo: $(STAMP)
	@echo "==> demo: the sample corpus from the web to a search with sources"
	@$(POE) --quiet demo

test: $(STAMP)
	@echo "==> check: lint, types, import contracts"
	@$(POE) --quiet check
	@echo "==> test: the whole suite"
	@$(POE) --quiet test

up: $(STAMP)
	@$(POE) --quiet up

down: $(STAMP)
	@$(POE) --quiet down

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
