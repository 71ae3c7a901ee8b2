# `make demo` and `make test` do all set-up by themselves: a virtual environment in .venv, the pinned packages, and a
# check of the system libraries that prints the exact apt line if one is missing.
#
#   TORCH_PIP_ARGS  extra pip arguments for PyTorch alone. Without an NVIDIA GPU, give the arguments that PyTorch's own
#                   "get started" page shows for CPU wheels: the default Linux wheel brings several GB of CUDA along.

SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3 python; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && \
	{ echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TORCH_PIP_ARGS ?=
OUT ?= out/demo
PYTEST_ARGS ?=
QT_OFFSCREEN := QT_QPA_PLATFORM=$${QT_QPA_PLATFORM:-offscreen}

.PHONY: help demo test check lint types audit pytest setup system screenshots clean

help:
	@echo "make demo         fuse a simulated rig and show the result (out/demo); opens the window where there is a display"
	@echo "make test         lint, types, import rules and all tests"
	@echo "make screenshots  every view and state of the window as PNG, under Xvfb"
	@echo "make setup        only the virtual environment"
	@echo "make clean        remove the virtual environment and caches"

system:
	@bash scripts/check_system.sh

setup: system $(READY)

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer was not found. Debian/Ubuntu: sudo apt-get install -y python3 python3-venv" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "The venv module is missing: sudo apt-get install -y python3-venv" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch $(TORCH_PIP_ARGS)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(READY)

demo: setup
	$(BIN)/lumitherm demo --output $(OUT)
	@if [ -n "$$DISPLAY$$WAYLAND_DISPLAY" ]; then \
		echo "Opening the window on the simulated rig; close it to end."; \
		$(BIN)/lumitherm gui --config configs/simulated.yaml; \
	else \
		echo "No display here: \`lumitherm gui\` opens the window where there is one."; \
	fi

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

# The application's tests watch threads keep their time: they run one by one, and without coverage, whose tracing changes
# that time. The others run in two processes.
# PYTEST_ARGS: one run of what it names instead.
pytest: setup
ifeq ($(PYTEST_ARGS),)
	OMP_NUM_THREADS=1 $(QT_OFFSCREEN) $(BIN)/python -m pytest -n 2 --dist loadfile --cov=fusion_core --cov=calibration --cov-branch \
		--cov-report=term:skip-covered tests/fusion_core tests/calibration tests/test_import_rules.py tests/test_audit.py
	$(QT_OFFSCREEN) $(BIN)/python -m pytest tests/app
else
	$(QT_OFFSCREEN) $(BIN)/python -m pytest $(PYTEST_ARGS)
endif

# What is installed: consistent, pinned, licences that fit, no version that is known to be bad. Needs no network.
audit: setup
	$(BIN)/python scripts/audit.py

check: lint types audit pytest

test: check

screenshots: setup
	xvfb-run -a -s "-screen 0 1920x1200x24" $(BIN)/python -m benchmarks.screenshots out/screenshots

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis out build *.egg-info
