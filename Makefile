# `make setup` installs the one CPU environment into .venv; everything else calls it first.
PYTHON ?= python3.11
VENV ?= .venv
LOCK := requirements/cpu-py311.lock
RUN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: setup demo test coverage lint imports types docs dist lock clean
.DELETE_ON_ERROR:

setup: $(READY)

$(READY): $(LOCK) setup.py pyproject.toml
	@$(PYTHON) -c 'import sys; assert sys.version_info[:2] == (3, 11)' || \
	  { echo 'Python 3.11 is needed: make PYTHON=/path/to/python3.11'; exit 2; }
	@echo "Setting up $(VENV): some 370 packages, 7.6 GB; about 6 minutes on 2 cores."
	@test -x $(RUN)/python || $(PYTHON) -m venv $(VENV)
	@$(RUN)/python -m pip install -q --disable-pip-version-check --no-deps -r $(LOCK)
	@$(RUN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: setup
	@$(RUN)/exaranker demo

test: setup
	@$(RUN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# Of the tests that are not slow; `make test` runs without the tracer, which slows all Python that jax traces through.
coverage: setup
	@$(RUN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m 'not slow' --cov

lint: imports
	@$(RUN)/ruff check . && $(RUN)/ruff format --check .

# The folders are laid out as setup.py maps them: in an editable checkout the mapping is invisible to import-linter.
build/imports: setup
	@rm -rf $@ && $(RUN)/python setup.py -q build_py --build-lib $@ 2>/dev/null

imports: build/imports
	@cd build/imports && ../../$(RUN)/lint-imports --no-logo --no-cache ../../pyproject.toml

docs: build/imports
	@NO_MKDOCS_2_WARNING=1 $(RUN)/mkdocs build -q --strict --site-dir build/site && echo "the pages are in build/site"

# Types are checked on the installed wheel: the folder mapping of setup.py is invisible to an editable checkout.
types: dist
	@rm -rf build/installed && $(RUN)/python -m pip install -q --no-deps --target build/installed dist/*.whl
	@cd build/installed && MYPYPATH=. ../../$(RUN)/mypy --config-file ../../pyproject.toml -p exaranker

dist: setup
	@rm -rf dist && $(RUN)/python -m build -q --no-isolation

# Needs `uv`; on a machine that keeps a CPU wheel of torch aside, name its folder in UV_FIND_LINKS.
lock:
	@uv pip compile -q --no-header --python-version 3.11 --override requirements/overrides.txt \
	  requirements/cpu.in -o $(LOCK)

clean:
	@rm -rf build dist out
