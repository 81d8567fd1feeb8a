# Everything a person or CI does with the project. Needs Python 3.11 or newer and make.
# `make VENV=.venv-3.13 PYTHON=python3.13 test-pure` uses another interpreter beside the first.

PYTHON ?= python3
VENV ?= .venv
PYTEST_ARGS ?=
SEEDS ?= 200
FIRST ?= 0
MINUTES ?= 30
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
LOCKS := requirements/build.txt requirements/dev.txt
GOLDEN = $(filter-out %.expected.jsonl %/cases.jsonl.gz %/bounds.jsonl.gz,$(wildcard tests/replay/golden/*.jsonl* tests/replay/golden/*/*.jsonl.gz))
PURE := tests/unit tests/contracts tests/stories tests/differential tests/property tests/replay tests/simulation
SERVERS := tests/integration tests/fuzz tests/k8s tests/chaos
RARE := tests/cluster tests/containers
# Tests of one file count what they met together, so a file stays in one process.
PARALLEL ?= --numprocesses=auto --dist=loadfile
# The real nats CLI, if scripts/build_nats_cli.sh has built it.
PSM_TEST_NATS_CLI ?= $(lastword $(wildcard $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/psm/nats-cli-*/nats))
export PSM_TEST_NATS_CLI
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help setup demo up test test-pure check fast lint format types layers schemas schemas-diff \
	schemas-check docs docs-check site properties chaos fuzz simulate mutation validate cluster containers bench \
	observe load sbom notices soak locks clean

help:  ## Show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP)  ## Make the virtual environment with everything pinned

$(STAMP): $(LOCKS) pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; try: make PYTHON=python3.12" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@# --no-deps: the locks are complete, and leave out what is only a dependency on paper.
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes $(LOCKS:%=-r %)
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(STAMP)  ## Run everything here with a live feed, and a table to watch
	@$(BIN)/psm demo $(ARGS)

up: $(STAMP)  ## Run everything here without the feed, state kept in ./data
	@$(BIN)/psm up --data-dir data $(ARGS)

test: $(STAMP)  ## Run all tests, on real servers
	@# What a machine lacks is left out, and that is said; in CI nothing is, so there it fails. But for
	@# the commits of before: no install step brings them.
	@without=; \
	leave_out() { echo "make test: $$2"; without="$${without:+$$without and }not $$1"; }; \
	lacks() { [ -n "$$CI" ] || leave_out "$$1" "tests $$2 are left out; they need $$3"; }; \
	scripts/build_nats_cli.sh >/dev/null || lacks nats_cli "of the nats command line" Go; \
	command -v "$${PSM_TEST_CHROMIUM:-chromium}" >/dev/null || lacks chromium "in a browser" chromium; \
	command -v prometheus >/dev/null || lacks prometheus "with Prometheus" prometheus; \
	[ -n "$${PSM_TEST_POSTGRES_BIN:-$$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null)}" ] || \
		lacks postgres_tls "of TLS to PostgreSQL" postgresql; \
	git rev-parse --quiet --verify HEAD~1 >/dev/null 2>&1 || \
		leave_out history "1 test of an upgrade is left out; it needs the commits of before"; \
	$(MAKE) --no-print-directory test-pure && \
	$(BIN)/pytest -m "$$without" $(PARALLEL) $(PYTEST_ARGS) $(wildcard $(SERVERS))

test-pure: $(STAMP)  ## Run the tests that need no server
	$(BIN)/pytest $(PARALLEL) $(PYTEST_ARGS) $(wildcard $(PURE))

check: lint types layers schemas-diff schemas-check docs-check fast  ## Run what CI runs before the full tests

fast: $(STAMP)  ## Run the quick tests: unit, stories and replay
	$(BIN)/pytest --quiet $(PARALLEL) $(PYTEST_ARGS) $(wildcard $(filter-out tests/property tests/simulation,$(PURE)))

lint: $(STAMP)  ## Check style and formatting, and that the domain is pure
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/python -m scripts.purity

format: $(STAMP)  ## Format the code and fix what can be fixed safely
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

types: $(STAMP)  ## Check the types
	$(BIN)/mypy

layers: $(STAMP)  ## Check which room imports which, and the lists that may only get shorter
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m scripts.rooms

schemas: $(STAMP)  ## Write the JSON Schemas of events and updates
	$(BIN)/python scripts/make_schemas.py

schemas-diff: $(STAMP)  ## Fail if the schemas in git are not those of the code
	$(BIN)/python scripts/make_schemas.py --check

schemas-check: $(STAMP)  ## Classify schema changes since the release; fail what breaks others
	$(BIN)/python -m scripts.check_schemas

docs: $(STAMP)  ## Write the pages that follow from the sources
	$(BIN)/python -m scripts.make_docs
	$(BIN)/python -m scripts.make_dashboards
	@# The helm that renders them is there for this processor only.
	@[ "$$(uname -m)" != x86_64 ] || $(BIN)/python -m scripts.make_rules

docs-check: $(STAMP)  ## Fail if such a page is not what the sources say
	$(BIN)/python -m scripts.make_docs --check
	$(BIN)/python -m scripts.make_dashboards --check

site: $(STAMP)  ## Build the site of the documentation in build/docs, and check its links
	$(BIN)/python -m scripts.site

properties: $(STAMP)  ## Run the property tests with many more examples
	HYPOTHESIS_PROFILE=thorough $(BIN)/pytest --timeout=3600 $(PARALLEL) $(PYTEST_ARGS) tests/property

chaos: $(STAMP)  ## Inject faults into real processes, the long form; see docs/faults.md
	PSM_TEST_CHAOS=long $(BIN)/pytest $(PYTEST_ARGS) -m chaos

fuzz: $(STAMP)  ## Feed odd and random input to a running PSM, the long form
	PSM_TEST_FUZZ=long $(BIN)/pytest --timeout=7200 $(PYTEST_ARGS) tests/fuzz

simulate: $(STAMP)  ## Run the simulator on many seeds; SEEDS=1000 FIRST=0 ARGS="--jobs 2"
	$(BIN)/python -m tests.support.simulator --seeds $(SEEDS) --first $(FIRST) $(ARGS)

mutation: $(STAMP)  ## Change the fold, see whether the golden hashes notice; ARGS="--sample 200"
	$(BIN)/python -m scripts.mutation $(ARGS)

validate: $(STAMP)  ## Replay the golden logs twice in unlike surroundings; prove the decisions of those of risk
	$(BIN)/psm validate $(patsubst %,--file %,$(GOLDEN)) $(ARGS)
	$(BIN)/psm validate --risk $(patsubst %,--file %,$(wildcard tests/replay/golden_risk/*.jsonl.gz))

cluster: $(STAMP)  ## Install the chart in front of a real API server; see docs/verified.md
	@command -v etcd >/dev/null || { echo "make cluster: etcd is needed: apt-get install etcd-server" >&2; exit 1; }
	@PSM_TEST_KUBERNETES=$$(scripts/build_kubernetes.sh) && export PSM_TEST_KUBERNETES && \
		$(BIN)/python -m scripts.verified run cluster $(BIN)/pytest --timeout=900 $(PYTEST_ARGS) tests/cluster

containers: $(STAMP)  ## Run the image and compose.yaml in real containers; see docs/containers.md
	@PSM_TEST_ENGINE=$$(scripts/build_engine.sh) && PSM_TEST_IMAGES=$$(scripts/build_images.sh) && \
		PSM_TEST_COMPOSE=$$(scripts/build_compose.sh) && \
		export PSM_TEST_ENGINE PSM_TEST_IMAGES PSM_TEST_COMPOSE && \
		$(BIN)/python -m scripts.verified run containers \
			$(BIN)/pytest --timeout=900 $(PYTEST_ARGS) tests/containers

bench: $(STAMP)  ## Measure; see benchmarks/
	$(BIN)/python -m benchmarks $(ARGS)

observe: $(STAMP)  ## Start the stack and a Prometheus, ask every panel and rule, make alerts fire
	$(BIN)/python -m scripts.verified run observe $(BIN)/python -m scripts.observe

soak: $(STAMP)  ## Run everything under load, watch memory, audit it; MINUTES=30 ARGS="--accounts 500"
	$(BIN)/python -m benchmarks.soak --minutes $(MINUTES) $(ARGS)

load: $(STAMP)  ## Load three brokers here until the backlog grows; ARGS="--first 100 --step-s 10"
	$(BIN)/python -m scripts.verified run load $(BIN)/python -m benchmarks.load $(ARGS)

sbom: $(STAMP)  ## Print the bill of materials of the image, CycloneDX
	@$(BIN)/python -m scripts.supply_chain sbom

notices: $(STAMP)  ## Write the licence notices of the image's packages
	$(BIN)/python -m scripts.supply_chain notices

locks: $(STAMP)  ## Compile the hashed requirement locks anew
	$(BIN)/python -m pip install --quiet 'uv>=0.9'
	@PATH="$(BIN):$$PATH" scripts/make_locks.sh

clean:  ## Remove what was made here, except data
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find contracts workers projections tests -name __pycache__ -prune -exec rm -rf {} +
