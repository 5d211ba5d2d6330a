# crosstile needs python3 (3.11 or later) with its venv module, and make; everything else is installed into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= auto

.DEFAULT_GOAL := help
.PHONY: help demo test avx2 lint types format bench table clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.installed ## set up, classify real handwritten digits, multiply two matrices of odd sizes
	$(BIN)/python -m examples.digits.demo
	$(BIN)/crosstile run examples/matmul.mlir --dim M=1000 --dim N=999 --dim K=1001 --random 0

test: lint types ## set up and run all checks: style, types, tests
	$(BIN)/python -m pytest -n $(WORKERS) test

COMPILING := test/examples test/tools/test_api.py test/tools/test_run_command.py test/tools/test_same_bits.py \
	test/tools/test_targets.py test/targets/x86/test_operators.py test/targets/x86/test_transposes.py

avx2: export CROSSTILE_TARGET := x86-64-avx2
avx2: demo $(VENV)/.installed-test ## the demo, and the tests that compile and run programs, as on a core with AVX2 only
	$(BIN)/python -m pytest -n $(WORKERS) $(COMPILING)

lint: $(VENV)/.installed-test ## check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-test ## check types strictly
	$(BIN)/basedpyright --pythonpath $(BIN)/python

format: $(VENV)/.installed-test ## rewrite the sources in the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.installed ## measure compile time and kernels; results are ratios within one run
	@for script in bench/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

table: $(VENV)/.installed ## one core against every peer: install them, fill the table, draw the picture
	$(BIN)/pip install --quiet --editable '.[peers]'
	$(BIN)/python bench/cpu.py --json cpu.json --picture cpu.png

clean: ## remove the environment and everything generated
	rm -rf $(VENV) .typings build dist *.egg-info .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Installed anew when the list of dependencies or packages changes.
$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable .
	@touch $@

# The link lets type checkers, which do not see import hooks of editable installs, find the package.
$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/pip install --quiet --editable '.[test]'
	$(BIN)/pip download --quiet --no-deps --no-binary xdsl --dest $(VENV)/share xdsl==0.74.0
	@mkdir -p .typings && ln -sfn .. .typings/crosstile
	@touch $@
