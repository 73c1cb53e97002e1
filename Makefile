# make help lists the targets. Everything runs in .venv, which is made from requirements.lock.
FITS := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))
PYTHON ?= $(shell for p in python3.12 python3.11 python3; do $$p -c '$(FITS)' 2>/dev/null && echo $$p && break; done)
STUDY ?= quickstart
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
NBVAL := -m pytest -q -p no:cacheprovider --import-mode=prepend --nbval-lax --nbval-current-env --nbval-cell-timeout 600 notebooks

.DEFAULT_GOAL := help
.PHONY: help run test test-elsewhere lab site benchmark synthetic arm64 lint format notebooks publish lock clean

help:  ## list the targets
	@grep -E '^[a-z0-9-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 16

$(STAMP): requirements.lock pyproject.toml
	@$(or $(PYTHON),false) -c '$(FITS)' 2>/dev/null || \
	  { echo "edgeq needs Python 3.11 or 3.12: install one, or say make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "Creating the environment from requirements.lock (once, about two minutes) …"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --no-deps --editable .
	@touch $@

run: $(STAMP)  ## run a study: make run [STUDY=name or path.yaml]
	@$(BIN)/edgeq run $(STUDY)

test: $(STAMP)  ## unit tests, then every notebook by nbval
	@$(BIN)/python -m pytest
	@runs=$$(mktemp -d) && trap 'rm -rf "$$runs"' EXIT && \
	  EDGEQ_RUNS="$$runs" EDGEQ_PROGRESS=/dev/null $(BIN)/python $(NBVAL)

test-elsewhere: $(STAMP)  ## notebooks and quickstart once more, computed as another processor would
	@runs=$$(mktemp -d) && trap 'rm -rf "$$runs"' EXIT && cp -r tools/other_processor "$$runs/ipython" && \
	  export IPYTHONDIR="$$runs/ipython" EDGEQ_PROGRESS=/dev/null && \
	  EDGEQ_RUNS="$$runs/notebooks" $(BIN)/python $(NBVAL) && \
	  EDGEQ_RUNS="$$runs/study" $(BIN)/edgeq run quickstart && \
	  $(BIN)/python tools/same_choice.py "$$runs/study/quickstart/report"

lint: $(STAMP)  ## ruff, format, import contracts, types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/mypy

format: $(STAMP)  ## bring the code into the house's format
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

lab: $(STAMP)  ## open the notebooks in JupyterLab
	@$(BIN)/jupyter lab --notebook-dir notebooks

site: $(STAMP)  ## build the static site from figures/ and the notebooks, in build/site
	@$(BIN)/python tools/build_site.py

benchmark: $(STAMP)  ## the workbook's own speed, as ratios measured in one run
	@$(BIN)/python tools/speed.py

synthetic: $(STAMP)  ## the studies that need a network, to their end on synthetic data (long)
	@$(BIN)/python tools/stand_ins.py

arm64: $(STAMP)  ## fetch what emulates Arm64 (Debian's QEMU, an arm64 Python, wheels), outside the checkout
	@$(BIN)/python tools/arm64.py

notebooks: $(STAMP)  ## re-execute the notebooks with their defaults, and write their paired .py
	@$(BIN)/python tools/execute.py

publish: $(STAMP)  ## copy a study's report to figures/: make publish STUDY=name
	@$(BIN)/edgeq publish $(STUDY)

lock:  ## resolve the dependencies of pyproject.toml anew (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --extra dev --extra docs \
	  pyproject.toml -o requirements.lock
	@$(BIN)/python tools/environment.py

clean:  ## remove environment, runs and caches; downloads in data/ stay
	rm -rf $(VENV) runs build *.egg-info .pytest_cache .ruff_cache .mypy_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
