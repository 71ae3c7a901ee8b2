# `make demo` and `make test` do all set-up by themselves: a virtual environment in .venv, the pinned packages, and a
# check of the system libraries that prints the exact apt line if one is missing.
#
#   SLOW=1          `make test` runs the slow tests too, as CI does.
#   HEADLESS=1      `make setup` leaves out Qt and what hangs on it: every command but `gui` works.
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
TORCH_TENSORRT := $(VENV)/torch-tensorrt
TORCH_PIP_ARGS ?=
OUT ?= out/demo
PYTEST_ARGS ?=
SLOW ?=
COVERAGE ?=
HEADLESS ?=
# More processes than two cores, since many tests of cameras and recordings wait for time to pass.
WORKERS ?= 4
TRACED := $(if $(COVERAGE),--cov=fusion_core --cov=calibration --cov-branch --cov-report=term:skip-covered)
QT_OFFSCREEN := QT_QPA_PLATFORM=$${QT_QPA_PLATFORM:-offscreen}
PYTEST_SIDE_BY_SIDE := OMP_NUM_THREADS=1 $(QT_OFFSCREEN) $(BIN)/python -m pytest --dist worksteal

.PHONY: help demo test check lint types audit fuzz pytest docs setup system screenshots clean torch-tensorrt

help:
	@echo "make demo         fuse a simulated rig and show the result (out/demo); opens the window where there is a display"
	@echo "make test         lint, types, import rules and the tests; SLOW=1: the slow ones too, as CI does"
	@echo "make docs         the manual, in out/site"
	@echo "make screenshots  every view and state of the window as PNG, under Xvfb"
	@echo "make setup        only the virtual environment; HEADLESS=1: without Qt, for a rig"
	@echo "make clean        remove the virtual environment and caches"

system:
	@bash scripts/check_system.sh

setup: system $(READY)

$(READY): pyproject.toml constraints.txt requirements-headless.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer was not found. Debian/Ubuntu: sudo apt-get install -y python3 python3-venv" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "The venv module is missing: sudo apt-get install -y python3-venv" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch $(TORCH_PIP_ARGS)
ifeq ($(HEADLESS),)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@$(MAKE) --no-print-directory torch-tensorrt || echo "Torch-TensorRT was not to be had: the tests of its conversion skip."
else
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-headless.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
endif
	@touch $(READY)

# The Python part of Torch-TensorRT, without its CUDA needs, in a folder that nothing imports from but the tests of its
# conversion: it takes itself for usable wherever it is found.
torch-tensorrt:
	@rm -rf $(TORCH_TENSORRT)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target $(TORCH_TENSORRT) \
		'torch-tensorrt-rtx>=2.13,<2.14' 'dllist>=2,<3'
	@rm -rf $(TORCH_TENSORRT)/torch_tensorrt/{bin,include,lib} $(TORCH_TENSORRT)/torch_tensorrt/_C*

demo: setup
	$(BIN)/lumitherm demo --output $(OUT) --overwrite
	@if [ -n "$$DISPLAY$$WAYLAND_DISPLAY" ]; then \
		echo "Opening the window on the simulated rig; close it to end."; \
		$(BIN)/lumitherm gui --simulated; \
	else \
		echo "No display here: \`lumitherm gui\` opens the window where there is one."; \
	fi

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

# All tests side by side, without those marked slow.
# SLOW=1: every test; last, one by one, those marked alone, which measure how threads keep their time.
# COVERAGE=1: with SLOW=1, of the libraries; the application is not traced, since that changes its time.
# PYTEST_ARGS: one run of what it names instead.
pytest: setup
ifneq ($(PYTEST_ARGS),)
	$(QT_OFFSCREEN) $(BIN)/python -m pytest $(PYTEST_ARGS)
else ifeq ($(SLOW),)
	$(PYTEST_SIDE_BY_SIDE) -n $(WORKERS) -m "not slow" tests
else
	$(PYTEST_SIDE_BY_SIDE) -n 2 $(TRACED) tests/fusion_core tests/calibration
	$(PYTEST_SIDE_BY_SIDE) -n $(WORKERS) -m "not alone" tests/app tests/test_*.py
	$(QT_OFFSCREEN) $(BIN)/python -m pytest -m alone tests/app tests/test_*.py
endif

# What is installed: consistent, pinned, licences that fit, no version that is known to be bad. Needs no network.
audit: setup
	$(BIN)/python scripts/audit.py

# Every parser of files from outside, ten minutes in all; FUZZ_SECONDS for another time. Findings stay in out/fuzz.
FUZZ_SECONDS ?= 600
fuzz: setup
	$(BIN)/python scripts/fuzz.py --seconds $(FUZZ_SECONDS)

# A link, picture or heading that is not there is an error.
docs: setup
	$(BIN)/python scripts/reference_pages.py
	$(BIN)/zensical build --strict

# What takes one core runs side by side, then the tests, which take all.
check: setup
	@$(MAKE) --no-print-directory -j2 types lint audit docs
	@$(MAKE) --no-print-directory pytest

test: check

screenshots: setup
	xvfb-run -a -s "-screen 0 1920x1200x24" $(BIN)/python -m benchmarks.screenshots out/screenshots
	xvfb-run -a -s "-screen 0 1920x1200x24" $(BIN)/python -m benchmarks.screenshot_states out/screenshots/sheets
	QT_SCALE_FACTOR=2 xvfb-run -a -s "-screen 0 3840x2400x24" $(BIN)/python -m benchmarks.screenshot_states \
		out/screenshots/sheets 1920x1080

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis out build *.egg-info
