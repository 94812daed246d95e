# `make setup` installs the one CPU environment into .venv; everything else calls it first. PYTHON=... chooses its Python.
PYTHON ?=
VENV ?= .venv
VENV_PY312 ?= .venv-py312
RUN := $(VENV)/bin
READY := $(VENV)/.ready
LOCKS := requirements/cpu-py311.lock requirements/cpu-py312.lock

.PHONY: setup demo test coverage test-py312 lint imports types docs dist lock clean
.DELETE_ON_ERROR:

setup: $(READY)

$(READY): $(LOCKS) setup.py pyproject.toml
	@PYTHON='$(PYTHON)' scripts/set_up.sh $(VENV)
	@touch $@

$(VENV_PY312)/.ready: requirements/cpu-py312.lock setup.py pyproject.toml
	@scripts/set_up.sh $(VENV_PY312) 3.12
	@touch $@

demo: setup
	@$(RUN)/exaranker demo

test: setup
	@$(RUN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# Which lines the tests reach that are not slow. The tracer takes its time, so `make test` goes without it.
coverage: setup
	@$(RUN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m 'not slow' --cov

# Today's jax and its libraries, which need Python 3.12: what trains, ranks and evaluates. Tests that need torch are skipped.
test-py312: $(VENV_PY312)/.ready
	@$(VENV_PY312)/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m 'not slow' \
	  tests/models tests/train tests/rank tests/evaluate tests/checkpoints tests/files

lint: imports
	@$(RUN)/ruff check . && $(RUN)/ruff format --check .

# The folders are laid out as setup.py maps them: in an editable checkout the mapping is invisible to import-linter.
build/imports: setup
	@rm -rf $@ && $(RUN)/python setup.py -q build_py --build-lib $@ 2>/dev/null

imports: build/imports
	@cd build/imports && ../../$(RUN)/lint-imports --no-logo --no-cache ../../pyproject.toml

docs: build/imports
	@NO_MKDOCS_2_WARNING=1 $(RUN)/mkdocs build -q --strict --site-dir build/site && echo "the pages are in build/site"

# Types are checked on the installed wheel: the folder mapping of setup.py is invisible to an editable checkout. Programs
# that no test runs (benchmarks, experiments) are checked against it.
types: dist
	@rm -rf build/installed && $(RUN)/python -m pip install -q --no-deps --target build/installed dist/*.whl
	@cd build/installed && MYPYPATH=. ../../$(RUN)/mypy --config-file ../../pyproject.toml -p exaranker && \
	  MYPYPATH=.:../../benchmarks ../../$(RUN)/mypy --config-file ../../pyproject.toml \
	  ../../benchmarks/*.py ../../scripts/*.py ../../scripts/experiments/*.py

dist: setup
	@rm -rf dist && $(RUN)/python -m build -q --no-isolation

# Needs `uv`; on a machine that keeps a CPU wheel of torch aside, name its folder in UV_FIND_LINKS.
lock:
	@uv pip compile -q --no-header --python-version 3.11 --override requirements/overrides.txt \
	  requirements/cpu.in -o requirements/cpu-py311.lock
	@uv pip compile -q --no-header --python-version 3.12 --override requirements/overrides.txt \
	  requirements/cpu-py312.in -o requirements/cpu-py312.lock

clean:
	@rm -rf build dist out
