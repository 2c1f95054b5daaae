# Two commands are enough: `make demo` and `make test`. Each sets itself up first.
PYTHON ?=
WORKERS ?= 2
BIN := .venv/bin

# The test workers share the cores: one thread each is fastest, and its numbers repeat exactly.
test slow: export OMP_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help setup tools demo test slow lint format types docs bench clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup:  ## create .venv with all extras and the test tools (again at no cost)
	@PYTHON="$(PYTHON)" sh scripts/setup.sh all test

tools: setup  # linters, type checker and documentation builder, beside the above
	@sh scripts/setup.sh dev docs

demo: setup  ## see a speech recogniser emit its words earlier, with a report to open
	$(BIN)/kilter run align-with-purpose --preset demo

# torch.compile cannot trace the run-time shape checks, so its tests are a run of their own.
test: setup  ## run the suite: torch.compile first, then all else and the docstring examples, but for what is slow
	$(BIN)/python -m pytest tests -m compile --jaxtyping-packages=none,beartype.beartype
	$(BIN)/python -m pytest -m "not compile and not slow" -n $(WORKERS)

slow: setup  ## run the tests that take long: kills, several processes, every decoder and every extra
	$(BIN)/python -m pytest tests -m "slow and not compile" -n $(WORKERS) --timeout 1200

lint: tools  ## check style, spelling and the direction of imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/typos
	$(BIN)/lint-imports

# Formatted first, so that a fix sees the lines as they will be; again, since a fix leaves lines of its own; and what no
# machine can mend does not stop either: `make lint` names it.
format: tools  ## put the code in the house style
	$(BIN)/ruff format
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format

types: tools  ## check types
	$(BIN)/pyright

docs: tools  ## build the documentation into site/
	$(BIN)/python scripts/docs.py

bench: setup  ## time the hot paths against what one would otherwise run
	@for file in benchmarks/[a-z]*.py; do echo "$$file"; $(BIN)/python "$$file" || exit 1; done

clean:  ## remove what make made (run directories stay)
	rm -rf .venv build dist site .cache .hypothesis .import_linter_cache .pytest_cache .ruff_cache
