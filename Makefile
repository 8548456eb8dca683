# `make demo` and `make test` each set up an environment of their own from a fresh clone; PYTHON is any Python >= 3.11.
PYTHON ?= python3
BIN := .venv/bin
DEMO := .venv-demo/bin
PIP := pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt

# pip compiles nothing: a module is compiled when first imported, and kept, even where Python was told to keep none.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo demo-train test lint pytest page page-tools browser docs images clean

$(BIN)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/$(PIP) -e '.[dev]'
	touch $@

$(DEMO)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-demo
	$(DEMO)/$(PIP) -e '.[plots]'
	touch $@

# The model in the package predicts a sentence that one woman speaks happily and angrily, and a laugh; without torch.
demo: $(DEMO)/.ready
	rm -rf demo/clips demo/results
	mkdir -p demo/clips
	cp src/emimic/sample/speech/woman-happy.mp3 demo/clips/sentence-happy.mp3
	cp src/emimic/sample/speech/woman-angry.flac demo/clips/sentence-angry.flac
	cp src/emimic/sample/audio/00128.mp3 demo/clips/burst-amusement.mp3
	$(DEMO)/emimic predict demo/clips --timeline --plot --html --out demo/results
	@echo "intensities, timelines, plots and HTML pages: demo/results"

# A small encoder is trained for about a minute and scored.
demo-train: $(BIN)/.ready
	rm -rf demo/run
	$(BIN)/emimic train src/emimic/sample --out demo/run --config examples/demo.yaml
	$(BIN)/emimic evaluate demo/run src/emimic/sample --split test
	@echo "the trained encoder's scores: demo/run/evaluation/test"

# What the page needs comes while pip sets up; mypy and pytest's workers share the cores. Any failure is one of `make test`.
test:
	$(MAKE) --jobs=2 $(BIN)/.ready page-tools
	$(MAKE) --jobs=2 lint pytest

lint: $(BIN)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m benchmarks.tables --check

pytest: $(BIN)/.ready page-tools
	$(BIN)/slipcover --json --out .coverage.json -m pytest -n 2 --dist worksteal
	$(BIN)/slipcover --fail-under 95 --out .coverage.json --merge .coverage.json

# The tests of the page are skipped, and say why, where npm or Chromium is unavailable.
page-tools:
	-@$(MAKE) --no-print-directory node_modules/.package-lock.json
	-@$(MAKE) --no-print-directory browser

# The page in the browser: src/emimic/server/built, for `emimic serve` or any static host; npm brings ONNX Runtime's WebAssembly.
page: $(DEMO)/.ready node_modules/.package-lock.json
	$(DEMO)/python -m emimic.server.build_page --runtime node_modules/onnxruntime-web

# The versions and hashes are those of the lock file; no package's install script runs.
node_modules/.package-lock.json: package.json package-lock.json
	npm ci --ignore-scripts --no-audit --no-fund --silent

# Chromium for the tests of the page, where it is missing and Debian's can be installed.
browser:
	@command -v chromium > /dev/null || command -v google-chrome > /dev/null || \
		(apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium > /dev/null)

docs: $(BIN)/.ready
	$(BIN)/sphinx-build -W -q docs docs/_build

# The plot in the README and in docs.
images: $(BIN)/.ready
	$(BIN)/python -m benchmarks.images

clean:
	rm -rf .venv .venv-demo demo docs/_build node_modules src/emimic/server/built
