# `make help` lists what is here. The environment lives in .venv and is made when it is needed.
VENV ?= .venv
PY := $(VENV)/bin/python
PYTHON ?= python3
.DEFAULT_GOAL := help

.PHONY: help
help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | column -t -s '|'

$(VENV)/.ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: Python 3.11 or newer is needed (make PYTHON=python3.12 …)"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --require-hashes -r requirements.lock
	$(PY) -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

.PHONY: setup
setup: $(VENV)/.ready  ## make the environment from the lock (about 6 GB, 3 to 8 minutes, by the network)

.PHONY: demo
demo: setup  ## train, evaluate and report the ensemble on synthetic speech made on this machine
	$(PY) train.py dataset=demo experiment=demo
	$(PY) evaluate.py run=last
	@echo
	@echo "The demo's speech is SYNTHETIC: the figures show that the code works, nothing more."
	@echo "Next:  make ui                                  the run in the MLflow page"
	@echo "       $(VENV)/bin/ser wrong last                which clips were wrong"
	@echo "       $(VENV)/bin/ser data list                 real corpora, and how to get them"
	@echo "       make ablation                            the arms side by side"

.PHONY: test
test: setup  ## run the tests (no network, no GPU, no corpora needed)
	OMP_NUM_THREADS=1 $(PY) -m pytest -q -n auto --dist loadfile

UI := http://127.0.0.1:5000

.PHONY: ui
ui: setup  ## open the MLflow page on http://127.0.0.1:5000
	@echo "the runs side by side, best first (the list's address opens on the sweeps, folded):"
	@echo "$(UI)/#/experiments/1/runs?workflowType=machine_learning&compareRunsMode=CHART&searchFilter=tags.kind%20%3D%20%27training%27&orderByKey=metrics.%60test%2Fuar%60&orderByAsc=false"
	$(PY) -m mlflow ui --backend-store-uri sqlite:///mlruns/mlflow.db --host 127.0.0.1 --port 5000

.PHONY: ablation
ablation: setup  ## the arms over all folds and three seeds on the speech found (or the demo corpus): a table
	$(PY) sweep.py sweep=protocol

BENCHES ?= decode_mfcc mfcc embedding epoch ridge memory start tim_epoch tim_folds warm_run finetune gpu profile
.PHONY: bench
bench: setup  ## renew docs/performance.md (SER_DATA=corpora; RUNS="run folders" ENCODER=weights for latency)
	set -e; for name in $(BENCHES); do $(PY) -m bench.$$name --write; done
	$(if $(RUNS),$(PY) -m bench.latency --write --runs $(RUNS) $(if $(ENCODER),--encoder $(ENCODER)))

.PHONY: format
format: setup  ## format the code
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix-only --quiet .

.PHONY: check
check: setup  ## format, lint, types, layers and the fast tests
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	OMP_NUM_THREADS=1 $(PY) -m pytest -q -n auto --dist loadfile

.PHONY: coverage
coverage: setup  ## branch coverage of ser/ (at least 90 %)
	OMP_NUM_THREADS=1 $(PY) -m pytest -q -n auto --dist loadfile --cov=ser --cov-branch --cov-fail-under=90 --cov-report=term:skip-covered

.PHONY: lock
lock:  ## renew requirements.lock from pyproject.toml (needs uv)
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-strip-extras --upgrade -o requirements.lock
