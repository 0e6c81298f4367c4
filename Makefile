PYTHON ?= python3
BIN := .venv/bin

.PHONY: run test laws soak lint mutants notebooks playground

# a fifth of the preset's training, and 20 steps in the place of 50
QUICK := --batch-size 32 --steps 500 --classifier-steps 400 --judge-steps 300 --sampling-steps 20
run: .venv/ready  ## two to three minutes: train on the embedded digits, draw samples with every guidance
	$(BIN)/python -m train --preset digits --overwrite $(QUICK)

test: .venv/ready  ## every test, one thread a worker
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --maxprocesses 8 --dist worksteal

laws: .venv/ready  ## the derivations alone, about two minutes: which test proves which equation
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/laws -v -n logical --maxprocesses 8 --dist worksteal

soak: .venv/ready  ## the long part: KILLS=30 kills, FUZZ=10 times the fuzz, full disks, hostile files
	OMP_NUM_THREADS=1 $(BIN)/python tests/soak.py

lint: .venv/ready  ## format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

notebooks: .venv/ready  ## open them in JupyterLab (notebooks/execute.py runs all and stores the outputs)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[notebooks]"
	OMP_NUM_THREADS=1 $(BIN)/jupyter lab --ServerApp.root_dir=. notebooks/00_what_the_negative_prompt_box_does.ipynb

PORT ?= 8000
playground:  ## the page of docs/playground, on the loopback address alone
	(sleep 1; $(PYTHON) -m webbrowser http://127.0.0.1:$(PORT)/docs/playground/) & \
	$(PYTHON) -m http.server $(PORT) --bind 127.0.0.1

mutants: .venv/ready  ## an hour: put small faults into every folder; does a test notice?
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[mutants]"
	OMP_NUM_THREADS=1 $(BIN)/python tests/mutants.py

.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	touch $@
