# Each target does its own set-up: `make demo` and `make test` work in a fresh clone.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-slow test-lowest test-newest lint docs benchmarks clean

demo: .venv/ready
	$(BIN)/scorefield demo --out demo

test: .venv/ready
	$(BIN)/python -m pytest -n auto --dist worksteal

test-slow: .venv/ready
	$(BIN)/python -m pytest -m slow -n auto --dist worksteal

# The fast tests with the lowest versions that pyproject.toml allows, and with the newest of all and the newest Python at
# hand. What libraries say to each other of things that they will leave out is no error there.
OTHERS := -W default::DeprecationWarning -W default::FutureWarning -W default::ResourceWarning \
	-W default::pytest.PytestUnraisableExceptionWarning
test-lowest: .venv-lowest/ready
	.venv-lowest/bin/python -m pytest $(OTHERS) -n auto --dist worksteal

test-newest: .venv-newest/ready
	.venv-newest/bin/python -m pytest $(OTHERS) -n auto --dist worksteal

lint: .venv/ready
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright

docs: .venv/ready
	$(BIN)/pdoc --docformat google --output-directory site scorefield

benchmarks: .venv-peers/ready
	.venv-peers/bin/python benchmarks/overhead.py
	.venv-peers/bin/python benchmarks/quality_vs_nfe.py
	.venv-peers/bin/python benchmarks/train_step.py
	.venv-peers/bin/python benchmarks/ddpm_forward.py
	.venv-peers/bin/python benchmarks/adaptive.py
	.venv-peers/bin/python benchmarks/likelihood.py

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "scorefield needs Python 3.11 or later")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

.venv-lowest/ready: pyproject.toml
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/pip install --quiet uv
	.venv-lowest/bin/uv pip install --quiet --python .venv-lowest/bin/python --resolution lowest-direct --editable '.[dev]'
	touch $@

NEWEST ?= $(shell for p in python3.15 python3.14 python3.13 python3.12 $(PYTHON); do $$p -c '' 2>&- && echo $$p && break; done)
.venv-newest/ready: pyproject.toml
	$(NEWEST) -m venv .venv-newest
	.venv-newest/bin/pip install --quiet uv
	.venv-newest/bin/uv pip install --quiet --python .venv-newest/bin/python --editable '.[dev]'
	touch $@

# The libraries that the benchmarks compare with. Those that ask for torchvision, which they do not use here, come alone.
.venv-peers/ready: pyproject.toml constraints.txt benchmarks/peers.txt
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/pip install --quiet --constraint constraints.txt torch
	.venv-peers/bin/pip install --quiet --constraint constraints.txt --editable .
	.venv-peers/bin/pip install --quiet --constraint constraints.txt diffusers==0.42.1 torchdiffeq torchode torchsde einops
	.venv-peers/bin/pip install --quiet --no-deps --requirement benchmarks/peers.txt
	touch $@

clean:
	rm -rf .venv .venv-lowest .venv-newest .venv-peers demo
