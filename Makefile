# Two commands: `make run` talks, `make test` checks everything. Nothing outside this folder is touched.
#
#   PYTHON=python3.12      another interpreter (3.11 or newer)
#   TORCH_INDEX=ADDRESS    where torch comes from: the address that pytorch.org's "Get started" page shows for
#                          your machine (a CPU-only machine saves some gigabytes with the CPU build)

PYTHON ?= python3
VENV ?= .venv
TORCH_INDEX ?=
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
FILES := pyproject.toml constraints.txt

.PHONY: run test bench bench-delivery install clean
.DEFAULT_GOAL := run

run: $(VENV)/.installed
	@$(BIN)/parley run

install: $(VENV)/.installed

test: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest

# In about ten minutes, on a machine with nothing else to do; docs/performance.md tells what the figures mean.
bench: $(VENV)/.installed-bench
	$(BIN)/python -m benchmarks.engine --quick
	$(BIN)/python -m benchmarks.starter_quality
	$(BIN)/python -m benchmarks.pretrain_throughput

# In about five minutes: nothing lost and nothing answered twice, while the process is killed again and again.
bench-delivery: $(VENV)/.installed-dev
	$(BIN)/python -m benchmarks.delivery --quick

$(BIN)/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and f"Parley needs Python 3.11 or newer; $(PYTHON) is {v[0]}.{v[1]}. Try: make PYTHON=python3.12")'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo 'Parley needs the venv module of Python. On Debian and Ubuntu: apt install python3-venv' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.torch: constraints.txt | $(BIN)/python
	@echo 'Installing PyTorch (once; a minute or a few) ...'
	@$(PIP) install --quiet $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) "$$(grep '^torch==' constraints.txt)"
	@touch $@

$(VENV)/.installed: $(FILES) $(VENV)/.torch
	@echo 'Installing Parley (once) ...'
	@$(PIP) install --quiet --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.installed-dev: $(FILES) $(VENV)/.torch
	@echo 'Installing what the tests need (once) ...'
	@$(PIP) install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-bench: $(FILES) $(VENV)/.torch
	@echo 'Installing what the benchmarks need (once; llama.cpp is compiled, which takes minutes) ...'
	@CMAKE_ARGS="-DGGML_NATIVE=ON $(CMAKE_ARGS)" $(PIP) install --quiet --constraint constraints.txt --editable '.[bench]' \
		|| { echo 'llama.cpp could not be compiled: it is left out.' >&2; \
			$(PIP) install --quiet --constraint constraints.txt --editable '.[train]'; }
	@touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
