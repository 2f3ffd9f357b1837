# The two commands of the README: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# On a machine with an NVIDIA GPU the CUDA build of vLLM, elsewhere the CPU build.
HARDWARE ?= $(shell command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L >/dev/null 2>&1 && echo vllm || echo cpu)
EXTRAS := $(HARDWARE),zoo,dev
# uv does not read pip's configuration; a CPU build of torch may lie where pip would look.
LINKS := $(shell $(PYTHON) -m pip config get global.find-links 2>/dev/null || $(PYTHON) -m pip config get :env:.find-links 2>/dev/null)
ifneq ($(LINKS),)
export UV_FIND_LINKS := $(LINKS)
else ifeq ($(HARDWARE),cpu)
export UV_TORCH_BACKEND := cpu
endif
PINS := $(if $(filter cpu,$(HARDWARE)),-c constraints.txt,)

.PHONY: install browser demo test check format docs bench clean
install: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "uv>=0.9,<1"
	$(BIN)/uv pip install --python $(BIN)/python $(PINS) -e ".[$(EXTRAS)]"
	touch $@

demo: install
	$(BIN)/ptharness demo

# The report is tested in a real browser: Debian's, not one that Playwright would download.
browser:
	@if command -v chromium >/dev/null 2>&1; then :; \
	elif command -v apt-get >/dev/null 2>&1 && [ "$$(id -u)" = 0 ]; then \
		(apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y chromium) || \
			echo "chromium could not be installed: the report's browser tests cannot run"; \
	else \
		echo "chromium is missing: install it (apt-get install chromium), or the report's" \
			"browser tests are skipped"; \
	fi

# Two files at a time: many tests wait for processes of their own.
test: install browser
	$(BIN)/python -m pytest -n 2 --dist loadfile

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: install
	$(BIN)/python docs/generate.py

bench: install
	$(BIN)/python -m tests.benchmarks

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
