# The commands people type. `make` alone lists them.
#
# One profile, release, for everything: gRPC C-core takes minutes to compile, and is compiled once.
#
# What a target installs on this machine is told before. With NO_INSTALL=1, or without root where only root can
# install it, the target tells what is missing and stops, before it compiles anything.

export PATH := $(CURDIR)/target/tools/bin:$(PATH)
CARGO := cargo

.DEFAULT_GOAL := help
.PHONY: help demo test test-binary faults soak simulate fuzz differential model upgrades lint deps \
    release dist reproducible bench image e2e tools tests-of-seconds tests-of-a-minute

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: tools ## fetch, write and rotate SVIDs before your eyes, with a test server
	$(CARGO) build --release --locked --bins --example workload-api-server --example demo
	$(CARGO) run --release --locked --quiet --example demo

# Most tests wait most of the time, so many run at once, and those that wait for a minute run beside all others. The
# tests of faults keep the processors busy, and come by themselves. Of the examples, one is needed: the test server.
SPECIFICATION := $(CARGO) test --release --locked --test specification --
test: tools ## run all tests
	$(CARGO) build --release --locked --tests --example workload-api-server
	@$(MAKE) --no-print-directory --jobs=2 tests-of-seconds tests-of-a-minute

tests-of-seconds:
	$(CARGO) test --release --locked --lib
	$(SPECIFICATION) --test-threads=24 --skip after_half_a_minute:: --skip faults:: --skip soak::
	$(SPECIFICATION) --test-threads=8 faults:: soak::

tests-of-a-minute:
	$(SPECIFICATION) --test-threads=24 after_half_a_minute::

test-binary: tools ## run specification and demo with another binary (BINARY="qemu-aarch64 PATH" or PATH)
	BINARY_UNDER_TEST='$(BINARY)' $(CARGO) test --release --locked --test specification -- \
	    --test-threads=12 --skip faults:: --skip fuzz:: --skip soak::
	BINARY_UNDER_TEST='$(BINARY)' $(CARGO) run --release --locked --quiet --example demo

faults: tools ## kill and disturb a publication at every system call (strace, minutes); print how often
	@./tests/faults/install-tools
	$(CARGO) test --release --locked --test specification -- --ignored --nocapture faults::

soak: tools ## rotate 10,000 times while things go wrong; meet random peers (SEED=…, ROTATIONS=…, MINUTES=2; minutes)
	SOAK_SEED=$(SEED) SOAK_ROTATIONS=$(ROTATIONS) SOAK_MINUTES=$(MINUTES) \
	    $(CARGO) test --release --locked --test specification -- --ignored --nocapture soak::

simulate: tools ## simulate years of the main loop in minutes (SEEDS=…, SEED=first, DAYS=each; FAULTS=1: find faults)
ifeq ($(FAULTS),1)
	@. ./.ci/missing.sh; need_program python3 "puts the faults in"; SEEDS=$(SEEDS) DAYS=$(DAYS) ./tests/simulation/faults
else
	SIMULATE_SEEDS=$(SEEDS) SIMULATE_SEED=$(SEED) SIMULATE_DAYS=$(DAYS) \
	    $(CARGO) test --release --locked --lib -- --ignored --nocapture simulation_of_many_seeds
endif

fuzz: tools ## let libFuzzer make up inputs for every parser (TIME=seconds for each, 60; TARGET=name)
	@TIME=$(TIME) TARGET=$(TARGET) ./tests/fuzz/fuzz

differential: tools ## compare what the helper accepts with OpenSSL and Python, on mutants (COUNT=, SEED=; minutes)
	@COUNT=$(COUNT) SEED=$(SEED) ./tests/differential/run

upgrades: tools ## run an earlier binary and this one in turn on one directory (OLD=commit, or OLD_BINARY=path)
	@OLD='$(OLD)' OLD_BINARY='$(OLD_BINARY)' ./tests/upgrades/run

lint: tools ## check format, lints, links, the workflow, the simulated faults' places and the oldest Rust; a warning fails
	$(CARGO) fmt --check
	$(CARGO) clippy --release --locked --workspace --all-targets -- -D warnings
	@./.ci/check-links
	@./.ci/check-workflow
	@./.ci/check-oldest-rust
	@if command -v python3 >/dev/null; then ./tests/simulation/faults places; \
	else echo "skipped: the places of the simulated faults (no python3)"; fi

deps: ## list each dependency with licence and reason; check all licences, and advisories (cargo-audit)
	@./.ci/dependencies

release: tools ## build the static binary, print size and SHA-256 (TARGET=aarch64-unknown-linux-gnu: for arm64)
	@./.ci/build-release $(TARGET)

dist: ## make a tarball for each platform, the list of all parts and SHA256SUMS in target/dist (PLATFORMS=…)
	@PLATFORMS='$(PLATFORMS)' ./.ci/dist

reproducible: ## build the committed version twice, elsewhere: the binaries are equal (minutes; TARGET=…)
	@./.ci/test-reproducible $(TARGET)

bench: tools ## measure size, memory and times, each beside its budget (PEER='NAME=COMMAND', JSON=FILE)
	PEER='$(PEER)' JSON='$(JSON)' $(CARGO) bench --profile release --locked --bench budgets

image: ## build the image with podman, buildah or docker (PLATFORMS=linux/amd64,linux/arm64; BINARY=paths to wrap)
	@PLATFORMS='$(PLATFORMS)' SOURCE='$(SOURCE)' ./.ci/build-image $(BINARY)

e2e: tools ## run the image, the manifests and the recipes with real servers; as root, on Debian
	@./tests/e2e/run

model: ## check the model of publication with Spin: all promises hold, each fault is found
	@./tests/model/check

tools: ## install what the build needs and this machine lacks, cmake and g++ (not with NO_INSTALL=1)
	@./.ci/install-build-tools
