# The first interpreter that says itself that it is one of these, since a name may be a shim that
# does nothing; override with: make PYTHON=/path/to/python
SUPPORTED := import sys; (3, 11) <= sys.version_info < (3, 14) and print(sys.executable)
PYTHON ?= $(shell for p in python3.12 python3.13 python3.11 python3 python; do \
  $$p -c '$(SUPPORTED)' 2>/dev/null | grep . && break; done)
VENV := .venv
PARITY := .venv-parity
PEERS := .venv-bench
VERSIONS := .venv-versions
COLAB := .venv-colab
BIN := $(VENV)/bin
DEMO := $(CURDIR)/experiments/runs/demo
SOURCES := src tests experiments benchmarks notebooks
RUN := cd src && ../$(BIN)/python

.DEFAULT_GOAL := help

.PHONY: help install demo test test-slow test-browser test-versions test-parity certify chaos fuzz \
  notebooks notebooks-colab bench serve-load test-gpu bench-gpu lint format clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

install: $(VENV)/.installed  ## create .venv and install everything

# Installed anew only when what is to be installed changed.
$(VENV)/.installed: requirements.txt pyproject.toml setup.py
	@echo "installing into $(VENV) (once; a few minutes)"
	@test -n "$(PYTHON)" || \
	  { echo "error: no Python 3.11 to 3.13 found; name one: make PYTHON=/path/to/python" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[all,dev]'
	@touch $@

demo: install  ## prepare, tune, test and try a tiny classifier on the bundled sample; no network
	@$(RUN) classification_tuning/prep_dataset.py --dataset sample --output_dir $(DEMO)/data
	@$(RUN) classification_tuning/train.py --config ../experiments/classification_demo.yaml \
	  --dataset_dir $(DEMO)/data --output_dir $(DEMO)/run --overwrite
	@$(RUN) classification_tuning/test.py --run_dir $(DEMO)/run --evaluate \
	  --text "i feel thrilled because i finally passed my driving test" \
	  --text "i was furious when someone stole my bike from the yard" \
	  --text "i feel heartbroken because my best friend moved to another country"

TEST := $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder
test: install  ## run the tests but for the slow ones; no network
	@$(TEST) -m "not slow"

test-slow: install  ## run the slow ones: kills, workers, notebooks, Keras's exports
	@$(TEST) -m "slow and not browser"

test-browser: install  ## drive the chat page in the system's Chromium; says what is left out
	@$(BIN)/python -m pytest -m browser -rs

test-versions: install  ## run the core's tests on the oldest and newest versions and each Python here
	@$(BIN)/python tests/versions.py $(CASES)

notebooks: install  ## make the notebooks, run them on the samples and store what they show
	@$(BIN)/python notebooks/run_notebooks.py

# Colab publishes what its machines have: googlecolab/backend-info, pip-freeze.gpu.txt.
COLAB_PYTHON ?= $(PYTHON)
notebooks-colab:  ## run them with Colab's versions: make notebooks-colab COLAB_LIST=pip-freeze.gpu.txt
	@test -f "$(COLAB_LIST)" || { echo "error: COLAB_LIST=FILE: Colab's list of packages," \
	  "pip-freeze.gpu.txt of googlecolab/backend-info" >&2; exit 2; }
	@$(COLAB_PYTHON) notebooks/colab_environment.py "$(COLAB_LIST)" $(COLAB)
	@$(COLAB)/bin/python notebooks/run_notebooks.py --check

chaos: install  ## kill preparation and training again and again; nothing may be lost
	@$(BIN)/python tests/chaos.py

# make fuzz FUZZ='--seed 3 --minutes 60 --mutants 20000'; --help lists the flags.
fuzz: install  ## spoil every file that is read, and flags; each mutant works or is refused in a line
	@$(BIN)/python tests/fuzz.py $(FUZZ)

# PyTorch comes first and alone, so that nothing asks for another build of it. It has an
# environment of its own: some of its builds crash in one process with TensorFlow.
$(PARITY)/.installed: tests/parity/requirements.txt | $(VENV)/.installed
	@echo "installing PyTorch and PEFT into $(PARITY) (once)"
	@test -x $(PARITY)/bin/python || $(BIN)/python -m venv $(PARITY)
	@$(PARITY)/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	@$(PARITY)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

test-parity: install $(PARITY)/.installed  ## compare with PyTorch, transformers and PEFT, both ways
	@PARITY_PYTHON=$(PARITY)/bin/python $(BIN)/python -m pytest tests/parity

certify: install  ## certify that devices, workers and accumulation leave the weights as they are
	@$(BIN)/python -m gpt2_tuning.commands.certify

$(PEERS)/.installed: benchmarks/requirements.txt | $(VENV)/.installed
	@echo "installing the peers into $(PEERS) (once)"
	@test -x $(PEERS)/bin/python || $(BIN)/python -m venv $(PEERS)
	@$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	@$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

# make bench BENCH='--cases "step/*" --data DIR'; --help lists the flags.
bench: install $(PEERS)/.installed  ## measure speed and memory beside transformers + PEFT and KerasHub
	@$(BIN)/python -m benchmarks.run --peer_python $(PEERS)/bin/python $(BENCH)

# make serve-load LOAD='--size mini --clients 64 --seconds 300'
serve-load: install  ## have many clients ask a server, and hold every answer against the one alone
	@$(BIN)/python -m benchmarks.serving_load $(LOAD)

# On a machine with a GPU, with interpreters that have what is needed: nothing is installed.
GPU_TESTS := tests/models tests/data/test_packing.py tests/inference/test_generation.py \
  $(addprefix tests/training/test_,gpu_checks.py precision.py steps.py strategy.py)
PEER_PYTHON ?= $(PYTHON)
WITH_SOURCES := PYTHONPATH=$(CURDIR)/src$${PYTHONPATH:+:$$PYTHONPATH}

test-gpu:  ## run what a GPU may change, with PYTHON as it is
	@$(WITH_SOURCES) $(PYTHON) -m pytest -q -p no:cacheprovider $(GPU_TESTS)

# make bench-gpu GPU='--data DIR --lines demo full'; --help lists the flags.
bench-gpu:  ## the table of a GPU in eight minutes: PYTHON beside PEER_PYTHON, as they are
	@$(WITH_SOURCES) $(PYTHON) -m benchmarks.gpu_table --peer_python "$$(command -v $(PEER_PYTHON))" $(GPU)

lint: install  ## check style and types
	@$(BIN)/ruff check $(SOURCES)
	@$(BIN)/ruff format --check $(SOURCES)
	@$(BIN)/mypy

format: install  ## put the code into the house format
	@$(BIN)/ruff check --fix $(SOURCES)
	@$(BIN)/ruff format $(SOURCES)

clean:  ## remove the environments and caches; prepared data and runs stay
	rm -rf $(VENV) $(PARITY) $(PEERS) $(VERSIONS) $(COLAB) benchmarks/work \
	  .mypy_cache .pytest_cache .ruff_cache
