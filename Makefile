# The targets make the virtual environment on first use, and need no network after that.
VENV ?= .venv
PYTHON ?= python3
PYTEST = $(VENV)/bin/python -m pytest
INSTALLED = $(VENV)/.installed

.PHONY: niah pocket test test-slow gpu-check lint clean

# The main job: the needle cells of the zoo against their accepted snapshots; a worker an accelerator, or a core.
niah: $(INSTALLED)
	$(PYTEST) -m gpu -k niah -n auto $(ARGS)

# Every cell of the pocket zoo.
pocket: $(INSTALLED)
	$(PYTEST) -m gpu -n auto --zoo pocket $(ARGS)

# Everything that runs no zoo model, but for what takes long.
test: $(INSTALLED)
	$(PYTEST) -m "not gpu and not slow" -n auto $(ARGS)

# What takes long; the nightly's part.
test-slow: $(INSTALLED)
	$(PYTEST) -m "slow and not gpu" -n auto $(ARGS)

# Everything that needs CUDA: kernels against the plain path, the pocket zoo, throughput at full sizes. Under ten minutes.
gpu-check: $(INSTALLED)
	$(VENV)/bin/python benchmarks/gpu_check.py $(ARGS)

lint: $(INSTALLED)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	PIP_CONSTRAINT=constraints.txt $(VENV)/bin/python -m pip install --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) results
