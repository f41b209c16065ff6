VENV ?= .venv
PYTHON ?= python3

.PHONY: install test check format

install: ## a virtual environment with Stepwell in it; never a CUDA build on a machine without a GPU
	$(PYTHON) .ci/install.py $(VENV)

test:
	$(VENV)/bin/python -m pytest

check:
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/mypy tests

format:
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .
