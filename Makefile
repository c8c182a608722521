# The commands of the project. Each sets up what it needs, and is quick when run again.
#   make test    lint, types, tests (no network beyond the package index)
#   make bench   speed against a plain loop, deepinv and the machine; memory; growth (minutes)
#   make fuzz    damaged files of every kind: N=20000 inputs, SEED=1 (minutes); failures are kept
#                in fuzz-failures/
#   make kills   kill -9 at random moments: N=100 kills, SEED=1; nothing may be lost (minutes)
#   make demo    recover a real photograph: PRIOR=path-or-name (default faces), OUT=folder,
#                LPIPS=alex (downloads its backbone; default none)

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PRIOR  ?= faces
OUT    ?= demo-out
LPIPS  ?= none
N      ?= 20000
SEED   ?= 1

.PHONY: help demo test fuzz kills bench lint types setup clean

help:
	@sed -n 's/^#   //p' Makefile

setup: $(VENV)/.ready

# pip picks torch and torchvision from the index together, so that they match.
$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 10) and f"iagan expects Python 3.10 or newer; got {v[0]}.{v[1]}. Run: make PYTHON=python3.12 ...")'
	@echo "Setting up $(VENV): some minutes, mostly for PyTorch. README.md says how to take it for CPUs alone."
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(VENV)/.ready
	$(BIN)/iagan demo --prior $(PRIOR) --lpips $(LPIPS) -o $(OUT)

test: lint types $(VENV)/.ready
	$(BIN)/python -m pytest

fuzz: $(VENV)/.ready
	PYTHONPATH=tests $(BIN)/python -m fuzz $(N) --seed $(SEED)

kills: N = 100
kills: $(VENV)/.ready
	$(BIN)/python tools/kills.py $(N) --seed $(SEED)

bench: $(VENV)/.ready
	for each in speed memory growth gaussian; do $(BIN)/python -m benchmarks $$each || exit 1; done

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.ready
	$(BIN)/mypy

clean:
	rm -rf $(VENV) $(OUT) build dist
