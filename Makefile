# The two commands of the README: `make demo` and `make test`. Everything runs in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check --quiet
CONSTRAINTS := requirements/constraints.txt
DEMO := build/demo
# Relative: pip splits it at blanks.
export PIP_CONSTRAINT := $(CONSTRAINTS)
# Where the user's settings ask for it, pip would refuse: there are no user packages in .venv.
export PIP_USER := 0

.PHONY: help demo test suite test-all check format bench fidelity fuzz clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "h4hc needs Python 3.11 or newer; run: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.base: $(BIN)/python pyproject.toml setup.py $(CONSTRAINTS) $(wildcard passes/core/native/*)
	$(PIP) install --editable .
	@# Compiled ahead, so that starting is fast even where Python may not write its caches.
	@$(BIN)/python -m compileall -q h4hc passes backends search
	@touch $@

$(VENV)/.dev: $(VENV)/.base
	@echo "Installing what tests and searches need, PyTorch among it: a minute or more the first time."
	$(PIP) install --editable '.[dev,search]'
	@touch $@

demo: $(VENV)/.base ## compile the example hybrid subnet for npu+cim, verify the bundle, say where the report is
	$(BIN)/h4hc compile examples/hybrid_subnet.onnx --target npu+cim --budget 20ms --output $(DEMO)
	$(BIN)/h4hc verify $(DEMO) --model examples/hybrid_subnet.onnx
	@echo "Report: $(abspath $(DEMO))/report.html"

test: $(VENV)/.dev ## the tests (a few minutes)
	$(BIN)/pytest -n auto

suite: $(VENV)/.dev ## the long checks: every model of the ONNX backend suite, replays, every search space
	$(BIN)/python -m tests.suite.backend
	$(BIN)/python -m tests.suite.replays --seeds 5
	$(BIN)/python -m tests.suite.export

test-all: test suite ## the tests and the long checks

check: $(VENV)/.dev ## lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.dev ## the benchmarks whose tables stand in the README
	$(BIN)/python benchmarks/models.py
	$(BIN)/python benchmarks/compile_speed.py
	$(BIN)/python benchmarks/cost_speed.py

FUZZ_SECONDS ?= 60
FUZZ := build/fuzz
FUZZ_FLAGS := -g -O1 -std=c11 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -Wno-unused-function
fuzz: $(VENV)/.base ## fuzz the C reader and executor for FUZZ_SECONDS (needs clang)
	@mkdir -p $(FUZZ)/corpus
	for name in pipelined weighty; do \
	  $(BIN)/h4hc bundle convert tests/handoff/golden/1.0-$$name.h4hs --strip --output $(FUZZ)/corpus/$$name.h4hs; \
	done
	clang $(FUZZ_FLAGS) -Ih4hc/firmware tests/firmware/fuzz.c h4hc/firmware/h4hc_exec.c h4hc/firmware/h4hc_check.c -o $(FUZZ)/fuzz
	$(FUZZ)/fuzz -max_total_time=$(FUZZ_SECONDS) -max_len=65536 -timeout=20 -artifact_prefix=$(FUZZ)/ $(FUZZ)/corpus

fidelity: $(VENV)/.dev ## compare the cost models with their references; writes docs/fidelity.md
	$(BIN)/python benchmarks/fidelity.py

clean: ## remove what make made
	rm -rf $(VENV) build dist *.egg-info
