# The commands people type. `make` alone lists them.
#
# One profile, release, for everything: gRPC C-core takes minutes to compile, and is compiled once.

export PATH := $(CURDIR)/target/tools/bin:$(PATH)
CARGO := cargo
RELEASED = $(wildcard target/*/release/pod-svid-helper)

.DEFAULT_GOAL := help
.PHONY: help demo test lint release bench image e2e tools

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-9s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: tools ## fetch, write and rotate SVIDs before your eyes, with a test server
	$(CARGO) build --release --locked --bins --examples
	$(CARGO) run --release --locked --quiet --example demo

# Most tests wait most of the time, so many run at once.
test: tools ## run all tests
	$(CARGO) test --release --locked -- --test-threads=16

lint: tools ## check format and lints; a warning is an error
	$(CARGO) fmt --check
	$(CARGO) clippy --release --locked --all-targets -- -D warnings

release: tools ## build the static binary and print its size
	$(CARGO) build --release --locked --bins
	@ls -l $(RELEASED) | awk '{ printf "%s: %.2f MiB\n", $$NF, $$5 / 1048576 }'

bench: tools ## measure size, memory and times, each beside its budget
	$(CARGO) bench --profile release --locked --bench budgets

image: ## build the image with podman, buildah or docker (BINARY=path wraps a binary that is there)
	@./.ci/build-image $(BINARY)

e2e: tools ## run the image, the manifests and a real nginx; as root, on Debian
	$(CARGO) build --release --locked --bins --examples
	./tests/e2e/run

tools: ## install what the build needs and this machine lacks (cmake, g++)
	@./.ci/install-build-tools
