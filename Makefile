# `make demo` and `make test` each begin from a fresh clone: they make .venv if needed.
PYTHON ?= python3
BIN := .venv/bin

# mkdocs-material's announcement of what may come after it.
export NO_MKDOCS_2_WARNING := 1

.PHONY: help setup test test-slow demo docs lint format dist benchmark-setup benchmark clean

help:  ## Show this list.
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

# The version that is installed is the one in __init__.py.
.venv/.installed: pyproject.toml constraints.txt keras_densenet/__init__.py
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	touch $@

setup: .venv/.installed  ## Make .venv and install the tested versions.

lint: setup  ## Check format, style, types and the import rule.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup  ## Format the code.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: setup  ## Build the site into site/; fails on a broken link or a missing docstring.
	$(BIN)/mkdocs build --strict --quiet

test: lint docs  ## Lint, build the docs, then run all tests but the slow ones.
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-slow: setup  ## Run the slow tests, on real CIFAR-10 where TFDS_DATA_DIR has it.
	$(BIN)/python -m pytest -m slow

demo: setup  ## Train, test, look inside, export and serve: 2 minutes on 2 cores.
	$(BIN)/python recipes/quickstart.py

dist:  ## Build sdist and wheel, and try the wheel in an empty environment: minutes.
	rm -rf dist
	$(PYTHON) tests/helpers/wheel_smoke.py dist

benchmark-setup: setup .venv-torch/.installed  ## Make .venv-torch: PyTorch, to compare with.

.venv-torch/.installed: benchmarks/torch-requirements.txt
	test -x .venv-torch/bin/python || $(PYTHON) -m venv .venv-torch
	.venv-torch/bin/python -m pip install --quiet -r $<
	touch $@

benchmark: benchmark-setup  ## Measure speed, first step and memory: an hour; leave the machine alone.
	$(BIN)/python benchmarks/train_speed.py
	$(BIN)/python benchmarks/train_speed.py --name others --variants keras plain \
	  torch_compile recompute_grad keras_default applications
	$(BIN)/python benchmarks/first_step.py
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/wrapper_overhead.py
	$(BIN)/python benchmarks/input_pipeline.py
	$(BIN)/python benchmarks/inference.py

clean:  ## Remove the environments, the caches, the site and dist.
	rm -rf .venv .venv-torch dist site
	rm -rf .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
