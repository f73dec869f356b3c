# What can be done here. `make` alone lists it.
#
# Nothing is built inside the clone: llama.cpp takes 6 to 10 minutes on two cores, so what was compiled is kept for
# the next clone too (`.ci/cargo` keeps clones apart). Every target compiles with the same profile and features;
# otherwise each would compile llama.cpp again for itself.

ifeq ($(HOME),)
export HOME := $(shell getent passwd "$$(id -u)" | cut -d: -f6)
endif

CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/lingualinked
export CARGO_TARGET_DIR ?= $(CACHE)/target
export LINGUALINKED_MODELS ?= $(CACHE)/models
# What `.ci/setup` installed is found without a new shell.
export PATH := $(CACHE)/tools/bin:$(or $(CARGO_HOME),$(HOME)/.cargo)/bin:$(PATH)

BIN := $(CARGO_TARGET_DIR)/release
CARGO_FLAGS := --release --locked

# Of `make demo`; may be given: make demo PHONES=5 PROMPT='Who was Ada Lovelace?'
PHONES = 3
# Bytes that each phone may use: too few for the whole model, so that it has to be shared.
MEMORY = 250000000
MODEL = $(LINGUALINKED_MODELS)/SmolLM2-135M-Instruct.Q4_1.gguf
PROMPT = Explain in two sentences why the sky is blue.
export PROMPT

define BUILDING
echo "Building into $(CARGO_TARGET_DIR). The first time this takes 10 to 20 minutes on two cores;"; \
echo "most of it is llama.cpp, which compiles without a word."
endef

# Of `make bench`: a real shape with random weights, because speed does not depend on them.
LLAMA_1B := $(CACHE)/bench/llama-3.2-1b-q4_0.gguf
ROUNDS = 5

# Of `make bench-network`: forming, forecast, transfer or chat; all if nothing is said.
PART =

.PHONY: help setup screens display build app demo test bench bench-network fmt lint formatting clippy clean

help:
	@echo "make app     install what is missing, build the app, and open its window"
	@echo "make demo    install what is missing, build, and ask three phones a question"
	@echo "make test    install what is missing, check formatting and lints, run all tests"
	@echo "make bench   measure groups of phones against plain llama.cpp, and print the figures"
	@echo "make bench-network   measure groups in network namespaces; needs root"
	@echo "make setup   only install what is missing to build"
	@echo "make fmt     format the code"
	@echo "make lint    check formatting, and clippy without a warning"
	@echo "make clean   remove what was built; the next build compiles llama.cpp again"
	@echo
	@echo "Built in $(CARGO_TARGET_DIR), models in $(LINGUALINKED_MODELS)."

setup:
	@.ci/setup build

# Cargo does not build what the window shows.
screens:
	@.ci/setup build ui app
	@.ci/ui build

app: | display screens
	@$(BUILDING)
	@.ci/cargo build $(CARGO_FLAGS) -p app
	@.ci/models smollm2
	@"$(BIN)/lingualinked-app"

# Said before anything is built.
display:
	@[ -n "$$DISPLAY$$WAYLAND_DISPLAY" ] || { \
		echo "There is no display here: neither DISPLAY nor WAYLAND_DISPLAY is set." >&2; \
		echo "Run this in a desktop session. Without one there is \`make demo\`." >&2; \
		exit 1; }

demo: build
	@.ci/models smollm2
	@echo
	@"$(BIN)/lingualinked" demo --phones $(PHONES) --memory-limit $(MEMORY) --model "$(MODEL)" --prompt "$$PROMPT"
	@echo
	@echo "To chat with them: $(BIN)/lingualinked demo --memory-limit $(MEMORY) --model $(MODEL)"

test:
	@.ci/test

bench: build $(LLAMA_1B)
	@.ci/models smollm2
	"$(BIN)/lingualinked" bench --rounds $(ROUNDS) --phones 1 --model "$(MODEL)"
	"$(BIN)/lingualinked" bench --rounds $(ROUNDS) --phones 3 --model "$(MODEL)"
	"$(BIN)/lingualinked" bench --rounds $(ROUNDS) --phones 3 --model "$(LLAMA_1B)"

bench-network: setup
	@.ci/setup netns
	@.ci/models smollm2
	@.ci/cargo bench --locked -p node --bench network -- $(PART)

fmt: setup
	cargo fmt --all

lint: formatting clippy

formatting: setup
	cargo fmt --all --check

clippy: screens
	@.ci/cargo clippy $(CARGO_FLAGS) --workspace --all-targets -- -D warnings

clean:
	cargo clean --release
	rm -rf "$(CACHE)/bench"

build: setup
	@$(BUILDING)
	@.ci/cargo build $(CARGO_FLAGS) -p node -p gguf-tools

$(LLAMA_1B): | build
	mkdir -p "$(@D)"
	"$(BIN)/gguf-tools" synth llama-3.2-1b --type q4_0 --out "$@.part"
	mv "$@.part" "$@"
