# Two commands set everything up on a fresh machine: `make run` and `make test`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PACKAGES := wavslm_core $(wildcard plugins/*/wavslm_*)
MADE_OF = $(VENV)/.backend requirements.txt pyproject.toml $(wildcard plugins/*/pyproject.toml)
# What pip does on one core, on all of them, and Python where it may write. A file that is no Python of ours
# or theirs stops nobody. What is hardly ever imported waits until it is.
RARE = /tests/|/transformers/models/(?!auto|hubert|wav2vec2|wavlm|whisper)
COMPILE = $(BIN)/python -m compileall -qq -j 0 -x '$(RARE)' $(VENV)/lib wavslm_core plugins || true
export OMP_NUM_THREADS ?= 2

.PHONY: run dev test test-fast check bench clean

run: $(VENV)/.installed  ## Train a small WavSLM on embedded speech, let it speak, write a report
	$(BIN)/wavslm-run recipes/wavslm_tiny.yaml

dev: $(VENV)/.installed-dev  ## The environment, with what tests need

test: check  ## Everything that CI runs: format, lint, types, tests
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 3 --dist loadscope --no-loadscope-reorder

test-fast: $(VENV)/.installed-dev  ## Without what takes more than a few seconds
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 3 --dist loadscope -m "not slow"

check: $(VENV)/.installed-dev  ## Format, lint and types only
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --num-workers auto $(PACKAGES)

bench: $(VENV)/.installed-dev  ## Time every part beside the floor that this machine sets
	$(BIN)/python -m tests.benchmarks

clean:  ## Remove the environment and caches; runs/ stays
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# The build backend goes in first and is shared by every editable package, so none builds in isolation.
$(VENV)/.backend: $(VENV)/bin/python constraints.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt hatchling editables
	touch $@

$(VENV)/.installed: $(MADE_OF)
	$(BIN)/python -m pip install --quiet --no-compile --no-build-isolation -r requirements.txt
	$(COMPILE)
	touch $@

# All at once: each call of pip builds every package of ours.
$(VENV)/.installed-dev: $(MADE_OF) requirements-dev.txt
	$(BIN)/python -m pip install --quiet --no-compile --no-build-isolation -r requirements-dev.txt
	$(COMPILE)
	touch $(VENV)/.installed $@
