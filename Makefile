PYTHON ?= python3
BIN := .venv/bin

.PHONY: run test lint

run: .venv/ready  ## train on the embedded digits and draw samples with every guidance
	$(BIN)/python -m train --preset digits --overwrite

test: .venv/ready  ## every test
	$(BIN)/python -m pytest

lint: .venv/ready  ## format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	touch $@
