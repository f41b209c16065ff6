VENV ?= .venv
PYTHON ?= python3

.PHONY: install test check docs format

install: ## a virtual environment with Stepwell in it; never a CUDA build on a machine without a GPU
	$(PYTHON) .ci/install.py $(VENV)

test:
	$(VENV)/bin/python -m pytest

check:
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/mypy tests

docs: ## the documentation site in build/site; warnings are errors, links and anchors are checked
	$(VENV)/bin/properdocs build --strict --config-file .ci/docs.yml

format:
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .
