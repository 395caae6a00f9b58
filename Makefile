# Set-up, starter models, server, tests and checks; `make help` lists the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTHONS ?= $(PYTHON)
MODELS ?= models
RUN ?= runs/small64
# pip would compile by one CPU; there are files that are not for this Python, which it passes over too.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt
COMPILE := $(BIN)/python -W ignore -m compileall -qq --workers 0 $(VENV)/lib || true

.PHONY: help serve models test test-fast wheels test-starters test-deploy bench bench-export bench-training stress check format protos dashboards docs clean

help:
	@echo "make serve    set up, train the starter models where $(MODELS)/ is empty, serve"
	@echo "make test     set up, run all tests, with their coverage and its floor"
	@echo "make test-fast   the tests that need no trained model and start no process, in under a minute"
	@echo "make wheels   build the three wheels, install and run them in an empty environment; PYTHONS= for which"
	@echo "make test-starters   train the starter models where they are missing, judge their digits"
	@echo "make test-deploy   build the images, docker compose up, traffic, restarts, replicas; needs a Docker engine"
	@echo "make bench    this server beside its peers, half an hour; needs h2load (Debian: nghttp2-client)"
	@echo "make bench-export   PyTorch, a naive export, OpenVINO and the bundle of $(RUN), a run folder, on a CPU"
	@echo "make stress   images of torch and onnxruntime by bits, in fresh processes under load, on a CPU; three minutes"
	@echo "make bench-training DATA= TEST=   the families beside their baselines on MNIST's parquet files; two hours"
	@echo "make check    formatting, types, import contracts, protos, Dockerfile, spelling, and that nothing made is stale"
	@echo "make format   format and sort imports"
	@echo "make protos   generate the stubs in core/figment/v1 from protos/"
	@echo "make dashboards   make deploy/grafana/dashboards/ from deploy/grafana/*.py"
	@echo "make docs     the tables of settings and quality figures in docs/"
	@echo "make clean    remove the environments, not the models"

serve: models
	@exec $(BIN)/figment serve --models $(MODELS)

models: $(VENV)/installed-serve
	@$(BIN)/python -m export.starter $(MODELS)

# A process of tests for each CPU; a file's tests share one, and its models are trained once for all. Threads of several
# processes would wait for each other: where CPUs are taken, features of 32 pictures cost two of torch's 12 times the CPU of one.
test test-fast: export OMP_NUM_THREADS = 1
test: $(VENV)/installed-dev
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder --cov --cov-report term:skip-covered

test-fast: $(VENV)/installed-dev
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile -m "not slow and not starters and not deploy"

wheels:
	.ci/wheels $(PYTHONS)

test-starters: $(VENV)/installed-dev models
	$(BIN)/python -m pytest tests/test_starters.py -m starters -s

test-deploy: $(VENV)/installed-dev
	$(BIN)/python -m pytest tests/deploy -m deploy -s

bench: $(VENV)/installed-dev
	$(BIN)/python -m benchmarks.serving

bench-export: $(VENV)/installed-dev
	$(BIN)/python -m benchmarks.export --run $(RUN)

stress: $(VENV)/installed-dev
	$(BIN)/python -m benchmarks.export.reproducible

bench-training: $(VENV)/installed-dev
	$(BIN)/python -m benchmarks.training.families --data $(DATA) --test $(TEST) --out runs/families
	$(BIN)/python -m benchmarks.training.stability --data $(DATA) --test $(TEST) --out runs/stability
	$(BIN)/python -m benchmarks.training.nats --data $(DATA) --test $(TEST) --out runs/nats
	$(BIN)/python -m benchmarks.training.presets

check: $(VENV)/installed-dev $(VENV)-protos/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	cd protos && ../$(BIN)/buf lint
	$(BIN)/codespell README.md CHANGELOG.md CONTRIBUTING.md docs training evaluation export server benchmarks protos clients core deploy tests
	protos/generate.sh $(VENV)-protos/bin/python --check
	$(BIN)/hadolint deploy/Dockerfile
	$(BIN)/python -m deploy.grafana.build --check
	$(BIN)/python -m docs --check

format: $(VENV)/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

protos: $(VENV)-protos/installed
	protos/generate.sh $(VENV)-protos/bin/python

dashboards: $(VENV)/installed-dev
	$(BIN)/python -m deploy.grafana.build

docs: $(VENV)/installed-dev
	$(BIN)/python -m docs

clean:
	rm -rf $(VENV) $(VENV)-protos

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# One environment: `make test` adds the tools of developers to what `make serve` installed.
$(VENV)/installed-serve: pyproject.toml clients/pyproject.toml core/pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing into $(VENV)"
	$(PIP) --editable ./core --editable ./clients --editable '.[train,features,export,serve]'
	$(COMPILE)
	@touch $@

$(VENV)/installed-dev: pyproject.toml clients/pyproject.toml core/pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing into $(VENV)"
	$(PIP) --editable ./core --editable ./clients --editable '.[dev]'
	$(COMPILE)
	@touch $@ $(VENV)/installed-serve

# Stubs are made by the oldest grpcio-tools supported, which wants an older protobuf than the one that is installed.
$(VENV)-protos/installed: protos/requirements.txt
	$(PYTHON) -m venv $(VENV)-protos
	$(VENV)-protos/bin/python -m pip install --quiet --disable-pip-version-check --requirement protos/requirements.txt
	@touch $@
