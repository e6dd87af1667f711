# Every target sets up .venv by itself: with uv where it is installed, else with python3 -m venv and pip.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The interpreter itself, also where PYTHON is that of a virtual environment, such as the one that is about to be made anew.
BASE := $(shell "$(PYTHON)" -c 'import sys; print(getattr(sys, "_base_executable", sys.executable))' 2>/dev/null)
VERSION := $(if $(BASE),$(shell "$(BASE)" -c 'import sys; print("%d.%d" % sys.version_info[:2])'))
STAMP := $(VENV)/installed-$(VERSION)

.PHONY: help venv reproduce test faults lint report peers clean

help:
	@echo "make reproduce   the vanishing-gradient figure on real digits"
	@echo "make test        the tests"
	@echo "make faults      break hundreds of runs, checkpoints and data files, and count what is lost"
	@echo "make lint        the linters"
	@echo "make report      one page of all records, results/index.html"
	@echo "make peers       add PyTorch, torchvision, scikit-learn, hmmlearn and MiniSom to the environment, for comparisons"
	@echo "make clean       remove the environment and the caches; results/ stays"
	@echo "make test PYTHON=python3.13   with another Python, 3.11 or newer"

venv: $(STAMP)

# Another Python, another list of packages or other versions: the environment is made anew.
$(STAMP): pyproject.toml constraints.txt
	@test -n "$(BASE)" || { echo "error: no Python found as '$(PYTHON)'; name one with PYTHON=..."; exit 2; }
	@"$(BASE)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $(PYTHON) is Python $(VERSION); jaxnn needs 3.11 or newer: PYTHON=..."; exit 2; }
	rm -rf $(VENV)
	if command -v uv >/dev/null; then \
	  uv venv --quiet --python "$(BASE)" $(VENV) && \
	  uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[test]'; \
	else \
	  "$(BASE)" -m venv $(VENV) && $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'; \
	fi
	@touch $@

reproduce: $(STAMP)
	$(BIN)/python -m experiments.vanishing_gradient

test: $(STAMP)
	$(BIN)/python -m pytest -q -n auto --maxprocesses 4 --dist loadfile

faults: $(STAMP)
	$(BIN)/python -m tests.faults

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

report: $(STAMP)
	$(BIN)/python -m experiments.report

peers: $(STAMP)
	if command -v uv >/dev/null; then uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[test,peers]'; \
	else $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,peers]'; fi

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
