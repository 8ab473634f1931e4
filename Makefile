# Everything runs in a virtual environment of its own. Only Python >= 3.11 and GCC or Clang have to be
# installed beforehand.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PYTEST_ARGS ?=

# The tested versions of the package's dependencies and of the build tools.
# As an address, because pip takes a space for the end of a path.
empty =
export PIP_CONSTRAINT = file://$(subst $(empty) $(empty),%20,$(CURDIR))/.ci/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK = 1

NATIVE = $(shell find src_cuda tests/cuda_emulation tests/squared_cost -type f -not -name '*.py*')
SOURCES = CMakeLists.txt pyproject.toml .ci/constraints.txt \
	$(shell find skdejavid src_cuda -type f -not -name '*.pyc')

PYTHON_FILES = $(sort $(shell find skdejavid -name '*.py'))

.PHONY: help demo quick test fuzz bench sanitize wheel lint format docs clean force

help:
	@echo "make demo    set up, classify real sequences and generated videos, print and plot"
	@echo "make quick   install in place, and run the tests that take no longer than a moment"
	@echo "make test    set up and run the whole test suite (PYTEST_ARGS=... goes to pytest)"
	@echo "make fuzz    malformed and hostile inputs, files, tables and videos; each must be accepted"
	@echo "             or rejected cleanly"
	@echo "make bench   measure the native core and the time and memory of fit (some minutes)"
	@echo "make sanitize  run the native tests under address, undefined-behavior and thread sanitizers"
	@echo "make wheel   build dist/, and test the wheel in a new environment without a compiler"
	@echo "make lint    ruff, mypy, clang-format"
	@echo "make format  rewrite the sources with ruff and clang-format"
	@echo "make docs    run the code blocks of all pages, build them into build/docs, check their links"
	@echo "make clean   remove everything that make built or installed"

demo: $(VENV)/.demo
	$(BIN)/skdejavid demo

# A test that waits forever ends the run, and says where each thread waits.
test: $(VENV)/.test
	$(BIN)/pytest -o faulthandler_timeout=900 -o faulthandler_exit_on_timeout=true $(PYTEST_ARGS)

quick: $(VENV)/.editable
	$(BIN)/pytest -m "not slow" --numprocesses=auto $(PYTEST_ARGS)

fuzz: $(VENV)/.test
	PYTHONPATH=tests:tests/files $(BIN)/python -P tests/fuzz.py
	PYTHONPATH=tests $(BIN)/python -P tests/fuzz_videos.py

bench: $(VENV)/.bench
	$(BIN)/python benchmarks/run.py

# One build of the native core per sanitizer, outside the virtual environment.
sanitize: $(VENV)/.test
	.ci/sanitize $(BIN)/python address
	.ci/sanitize $(BIN)/python thread

# In environments of its own: a wheel must not depend on what is installed in $(VENV).
wheel:
	.ci/wheel $(PYTHON)

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(NATIVE)

format: $(VENV)/.lint
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(NATIVE)

# Runs the code blocks, builds all pages anew, but runs only the examples of the gallery that have changed.
docs: $(VENV)/.docs
	rm -rf build/docs docs/reference/generated
	begin=$$(date +%s) \
	&& PYTHONPATH=docs $(BIN)/pytest -p code_blocks README.md CONTRIBUTING.md docs \
	&& $(BIN)/sphinx-build -W --keep-going -b html docs build/docs \
	&& $(BIN)/python docs/check_site.py build/docs build/external_links.txt \
	&& echo "built in $$(( $$(date +%s) - begin )) s"

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# One stamp file per extra: install the package as users do, compiled on this machine.
$(VENV)/.%: $(BIN)/python $(SOURCES)
	$(BIN)/pip install --quiet ".[$*]"
	rm -f $(VENV)/.editable
	touch $@

# In place, so that edits of Python files take effect immediately. Installed again when native code
# changes, and when Python files are added or removed: the installation contains the list of files.
$(VENV)/.editable: $(BIN)/python CMakeLists.txt pyproject.toml .ci/constraints.txt \
		$(shell find src_cuda -type f) build/python_files
	$(BIN)/pip install --quiet cmake ninja pybind11 scikit-build-core
	$(BIN)/pip install --quiet --no-build-isolation --editable ".[test]"
	rm -f $(foreach extra,demo test bench lint docs,$(VENV)/.$(extra))
	touch $@

build/python_files: force
	@mkdir -p build
	@echo $(PYTHON_FILES) | cmp -s - $@ || echo $(PYTHON_FILES) > $@

clean:
	rm -rf $(VENV) build dist demo_output .mypy_cache .ruff_cache .pytest_cache .hypothesis
	rm -rf docs/auto_examples docs/reference/generated
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
