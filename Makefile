# make chat             install, train the pocket world's assistant (minutes), and talk to it: in the browser, or where there is no
#                       desktop in the terminal
# make chat PROMPT="…"  the same, but answer once and exit
# make test             style, types, layers and tests
# make browser-test     the web page, driven by headless Chromium
# make docs             the documentation as a site, build/site/index.html, with the trained pocket model as a page that chats
# make bench            speed of this machine

VENV := .venv
BIN := $(VENV)/bin
PIP = $(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt
# PyTorch's own index has a build for processors alone; what pip takes elsewhere on Linux brings CUDA along.
TORCH_CPU := https://download.pytorch.org/whl/cpu
# Raw text, passed through the environment, so that quotes, apostrophes and $ in a prompt survive make and the shell.
override PROMPT := $(value PROMPT)
export PROMPT

.PHONY: help chat test browser-test docs bench
help:
	@sed -n 's/^# \(make .*\|   .*\)/  \1/p' Makefile

chat: $(VENV)/.installed
	@$(BIN)/chatling run pocket
	@if [ -n "$$PROMPT" ]; then $(BIN)/chatling chat pocket --prompt="$$PROMPT"; \
	elif [ -n "$$DISPLAY$$WAYLAND_DISPLAY" ] || { [ "$$(uname)" = Darwin ] && [ -z "$$SSH_CONNECTION" ]; }; then $(BIN)/chatling serve pocket --open; \
	else $(BIN)/chatling chat pocket; fi

# One thread a worker: two workers already fill two cores. A file stays in one worker, which then
# makes its fixtures once. pytest's summary is the last line.
test: $(VENV)/.installed-dev
	@$(BIN)/ruff format --check --quiet src tests examples
	@$(BIN)/ruff check src tests examples
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

browser-test: $(VENV)/.installed-dev
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/browser -m browser

docs: $(VENV)/.installed-docs
	@rm -rf build/live
	@$(BIN)/chatling export pocket html --out build/live >/dev/null 2>&1 || \
	echo "There is no trained run named pocket (make chat makes it): the site has no page that chats."
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo build/site/index.html

bench: $(VENV)/.installed
	@$(BIN)/chatling bench

# Each stamp is written last, so that a broken installation starts again.
$(VENV)/.created:
	@for python in python3 python3.13 python3.12 python3.11; do \
	    if "$$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then \
	        echo "Creating $(VENV) with $$("$$python" --version)"; \
	        "$$python" -m venv $(VENV) && touch $@ && exit 0; \
	        echo "Could not create $(VENV): install Python's venv module (on Debian and Ubuntu: apt install python3-venv)." >&2; \
	        exit 1; \
	    fi; \
	done; \
	echo "No Python 3.11, 3.12 or 3.13 found (tried python3, python3.13, python3.12, python3.11): install one and run make again." >&2; \
	exit 1

$(VENV)/.torch: $(VENV)/.created constraints.txt
	@if [ "$$(uname -s)" != Linux ] || command -v nvidia-smi >/dev/null || [ -e /dev/nvidia0 ] || [ -e /usr/lib/wsl/lib/nvidia-smi ]; then :; \
	else \
	    echo "No NVIDIA GPU: installing PyTorch's build for processors (chatling then takes 1.3 GB of disk instead of 5.8 GB)"; \
	    $(PIP) --timeout 10 --retries 1 --no-deps --index-url $(TORCH_CPU) torch 2>/dev/null || \
	    echo "$(TORCH_CPU) cannot be had: taking the build of pip's usual index, on Linux up to 5.8 GB."; \
	fi
	@touch $@

$(VENV)/.installed: $(VENV)/.torch pyproject.toml constraints.txt
	@echo "Installing chatling into $(VENV)"
	@$(PIP) --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.torch pyproject.toml constraints.txt
	@echo "Installing chatling and its test tools into $(VENV)"
	@$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-docs: $(VENV)/.installed
	@echo "Installing the site's generator into $(VENV)"
	@$(PIP) --editable '.[docs]'
	@touch $@
