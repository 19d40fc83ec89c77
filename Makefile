# Two commands do everything on a machine with Python 3.11+, a C++ compiler, perl and make:
#   make cosearch    the main job: search, confirmation in RTL, report
#   make test        linter, type checker, tests
# Each makes the virtual environment and installs into it when it is missing or pyproject.toml has changed.
# ARGS goes to the command (make cosearch ARGS="--lec 0.8"), PIP_ARGS to pip install.

PYTHON ?= $(shell for name in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$name && break; done)
VENV ?= .venv
ARGS ?=
PIP_ARGS ?=

RUN := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed

# Waiting OpenMP threads that spin would halve the speed of a simulation beside them.
export OMP_WAIT_POLICY := passive
# Some images of containers set it; then every process of the tests would compile its modules again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: cosearch test ruff mypy build install clean

cosearch: $(INSTALLED)
	$(RUN) -m search.cosearch $(ARGS)

# The linter and the type checker, then the tests.
test: ruff mypy
	$(RUN) -m pytest --numprocesses logical --dist loadfile --no-loadscope-reorder $(ARGS)

ruff: $(INSTALLED)
	$(RUN) -m ruff check .

mypy: $(INSTALLED)
	$(RUN) -m mypy --num-workers 2

build: $(INSTALLED)
	$(RUN) -m hw.build --board zcu102 $(ARGS)

install: $(INSTALLED)

$(INSTALLED): pyproject.toml
	@test -n "$(PYTHON)" || { echo "error: Python 3.11 or newer must be on PATH (Debian package python3)" >&2; exit 2; }
	@$(PYTHON) -m hw.toolchain --check
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --disable-pip-version-check $(PIP_ARGS) --editable '.[all]'
	@touch $@

clean:
	rm -rf build runs sim_build *.egg-info .pytest_cache .ruff_cache .mypy_cache
	find hw sw sim search tests benchmarks examples -name __pycache__ -type d -prune -exec rm -rf {} +
