# make demo    install and run the demo        make check   format, lint, types, tests
# make test    install and run the tests       make format  lay the code out
# make setup   install into .venv only         make clean   remove .venv, caches and results
# make coverage  the tests, and which lines they reach

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
PIP := $(BIN)/python -m pip install -q -c constraints.txt
READY := .venv/.ready

.PHONY: demo test check coverage format setup clean
demo: $(READY)
	@echo "==> Demo: synthetic NWB recordings through all ten stages"
	@$(BIN)/neurofmx run --dataset demo

test: $(READY)
	@echo "==> Tests, on two processes of one thread each"
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

check: $(READY)
	@echo "==> Format, lint"
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@echo "==> Types"
	@$(BIN)/mypy
	@$(MAKE) --no-print-directory test

coverage: $(READY)
	@echo "==> Tests, and which lines they reach"
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --cov --cov-report=term-missing:skip-covered

format: $(READY)
	@echo "==> Format"
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "No python3 on PATH: NeuroFM-X needs Python 3.11 or later"; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version.split()[0]; sys.version_info >= (3, 11) or \
		sys.exit(f"$(PYTHON) is Python {v}: NeuroFM-X needs 3.11 or later. make PYTHON=/path/to/it")'
	@echo "==> Environment .venv with $(PYTHON)"
	@$(PYTHON) -m venv .venv
	@echo "==> torch, the version that constraints.txt pins (some minutes)"
	@$(PIP) torch
	@echo "==> NeuroFM-X and what it needs (some minutes)"
	@$(PIP) -e ".[train,track,search,serve,ibl,baselines,bench,benchmarks,dev]"
	@$(PIP) --no-deps nlb-tools  # an oracle in tests; it asks for pandas 1.3, and runs with ours
	@touch $@

clean:
	@echo "==> Removing .venv, caches and the results of every stage (downloads in storage/raw stay)"
	@rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .dvc/cache .dvc/tmp
	@find storage -mindepth 1 -path storage/raw -prune -o ! -name README.md -type f -exec rm -f {} +
	@find storage -mindepth 1 -type d -empty -delete
