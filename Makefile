# The chores, by the names that the README and CI use. `make` alone lists them.

# nextest gives each test a process of its own and a time limit; without it the
# same tests run under cargo's own runner.
TEST_RUNNER := $(if $(shell command -v cargo-nextest 2>/dev/null),nextest run,test)

# Where cargo puts binaries.
TARGET := $(abspath $(or $(CARGO_TARGET_DIR),target))

# What `npm run build` makes; the binary takes it in.
PAGE := web-playground/dist/index.html

.PHONY: help build demo test test-tools test-rust test-page test-interop lint fmt bench schema serve deny

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(PAGE) ## Run the demo on http://127.0.0.1:8080
	@echo "Building: the first time takes some minutes, later ones seconds."
	cargo run --release --package api -- demo

build: $(PAGE) ## Build the page and the release binary, target/release/smartpulse
	cargo build --release --package api

# Without Node.js there is no page, but all the rest.
ifneq ($(shell command -v npm 2>/dev/null),)
web-playground/node_modules/.package-lock.json: web-playground/package-lock.json
	npm ci --prefix web-playground
	@touch $@

$(PAGE): web-playground/node_modules/.package-lock.json schema.graphql $(shell find web-playground -maxdepth 1 -type f) $(shell find web-playground/src web-playground/public web-playground/scripts -type f 2>/dev/null)
	npm run build --prefix web-playground
	@touch $@
else
.PHONY: $(PAGE)
$(PAGE):
	@test -e $@ || echo "Node.js is not installed (20.19 or later): the binary will be without the explorer page" >&2
endif

test: test-tools test-rust test-page test-interop ## Run every test, on SQLite and on a PostgreSQL started for it, in a browser, and with npm's GraphQL clients

# Before minutes of building, not after.
test-tools:
	@command -v npm >/dev/null || { echo "the page and the interoperation tests need Node.js, 20.19 or later" >&2; exit 1; }
	@command -v redis-server >/dev/null || { echo "the tests of the fan-out start a Redis of their own: install redis-server, 6.0 or later" >&2; exit 1; }
	@scripts/test-browser >/dev/null

# The mail server that tests send to.
SMTP := api/tests/smtp

$(SMTP)/node_modules/.package-lock.json: $(SMTP)/package-lock.json
	npm ci --prefix $(SMTP)
	@touch $@

test-rust: $(PAGE) $(SMTP)/node_modules/.package-lock.json
	scripts/test-postgres exec cargo $(TEST_RUNNER) --workspace --all-features

# Built as test-rust builds it, so that nothing is compiled twice.
test-page: test-tools $(PAGE)
	cargo test --workspace --all-features --no-run --quiet
	SMARTPULSE_TEST_CHROMIUM=$$(scripts/test-browser) SMARTPULSE_BINARY=$(TARGET)/debug/smartpulse npm test --prefix web-playground

# The GraphQL clients that apps use, as npm has them.
INTEROP := api/tests/interop

test-interop: test-tools
	cargo test --workspace --all-features --no-run --quiet
	npm ci --prefix $(INTEROP) --silent
	SMARTPULSE_BINARY=$(TARGET)/debug/smartpulse npm test --prefix $(INTEROP)

lint: ## Check formatting and lints, as CI does
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --all-features -- -D warnings

fmt: ## Format the code
	cargo fmt --all

bench: $(SMTP)/node_modules/.package-lock.json ## Run the benchmarks
	scripts/test-postgres exec cargo bench --workspace

# Built first: a build that fails must not leave an empty schema behind.
schema: ## Write schema.graphql
	cargo build --package api
	cargo run --quiet --package api -- schema > schema.graphql

serve: $(PAGE) ## Run the server on http://127.0.0.1:8080
	cargo run --release --package api -- serve

deny: ## Check dependencies: advisories, licences, sources
	@command -v cargo-deny >/dev/null || { echo "cargo-deny is not installed: cargo install --locked cargo-deny" >&2; exit 1; }
	cargo deny check
