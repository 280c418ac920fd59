# make demo: set up, run the pipeline on the sample, show the result.
# make test: set up, run the tests.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
UV := $(shell command -v uv 2>/dev/null)

export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: demo test lint setup clean

setup: $(READY)

# The packages are pinned with their hashes; mmsim itself is installed in place.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "mmsim needs Python 3.11 or newer; $(PYTHON) is `$(PYTHON) -V`. Try: make PYTHON=python3.12"; exit 1; }
ifdef UV
	@test -x $(BIN)/python || uv venv --quiet --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')" $(VENV)
	uv pip install --quiet --python $(BIN)/python -r requirements.lock
	uv pip install --quiet --python $(BIN)/python --no-deps --editable .
else
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
endif
	$(BIN)/mmsim setup
	@touch $@

demo: setup
	dvc repro
	@echo
	@mmsim show
	@echo
	@echo "The report lies at $(CURDIR)/reports/index.html"
	@echo
	@echo "Three commands worth typing next (after: source $(BIN)/activate):"
	@echo "  dvc exp run -S model.attention=cross     cross attention on the same features"
	@echo "  dvc metrics diff                         its figures beside the committed ones"
	@echo "  mmsim compare HEAD workspace             is the difference more than chance?"

test: setup
	pytest

lint: setup
	ruff check .
	ruff format --check .
	mypy

clean:
	rm -rf $(VENV) dvc_plots
