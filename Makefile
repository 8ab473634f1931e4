# Everything runs in a virtual environment of its own; nothing has to be installed by hand but
# Python >= 3.11 and GCC or Clang.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PYTEST_ARGS ?=

# The tested versions, for the package and for what builds it.
export PIP_CONSTRAINT = $(CURDIR)/.ci/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK = 1

NATIVE = $(shell find src_cuda tests/cuda_emulation tests/squared_cost -type f -not -name '*.py*')
SOURCES = CMakeLists.txt pyproject.toml .ci/constraints.txt \
	$(shell find skdejavid src_cuda -type f -not -name '*.pyc')

.PHONY: help demo test fuzz bench sanitize lint format docs clean

help:
	@echo "make demo    set up, classify real sequences and generated videos, print and plot"
	@echo "make test    set up and run the whole test suite (PYTEST_ARGS=... goes to pytest)"
	@echo "make fuzz    100,000 inputs that nobody means well with, each taken or refused"
	@echo "make bench   measure the native core and what fit costs (some minutes)"
	@echo "make sanitize  run the native tests under address, undefined-behavior and thread sanitizers"
	@echo "make lint    ruff, mypy, clang-format"
	@echo "make format  let ruff and clang-format rewrite the sources"
	@echo "make docs    build the documentation into build/docs"
	@echo "make clean   remove everything that was built or installed here"

demo: $(VENV)/.demo
	$(BIN)/python docs/examples/demo_sequences.py
	$(BIN)/python docs/examples/demo_videos.py

test: $(VENV)/.test
	$(BIN)/pytest $(PYTEST_ARGS)

fuzz: $(VENV)/.test
	$(BIN)/python -P tests/fuzz.py

bench: $(VENV)/.bench
	$(BIN)/python benchmarks/run.py

# One build of the native core for each sanitizer, outside of the environment that users have.
sanitize: $(VENV)/.test
	.ci/sanitize $(BIN)/python address
	.ci/sanitize $(BIN)/python thread

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(NATIVE)

format: $(VENV)/.lint
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(NATIVE)

docs: $(VENV)/.docs
	$(BIN)/sphinx-build -W --keep-going -b html docs build/docs

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# One stamp per extra: installs the package as a user would, compiled for this machine.
$(VENV)/.%: $(BIN)/python $(SOURCES)
	$(BIN)/pip install --quiet ".[$*]"
	touch $@

clean:
	rm -rf $(VENV) build demo_output .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
