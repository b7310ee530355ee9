# The chores, by the names that the README and CI use. `make` alone lists them.

# nextest gives each test a process of its own and a time limit; without it the
# same tests run under cargo's own runner.
TEST_RUNNER := $(if $(shell command -v cargo-nextest 2>/dev/null),nextest run,test)

.PHONY: help build test lint fmt bench schema serve deny

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "%-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## Build the release binary, target/release/smartpulse
	cargo build --release --package api

test: ## Run every test, on SQLite and on a PostgreSQL started for it
	scripts/test-postgres exec cargo $(TEST_RUNNER) --workspace --all-features

lint: ## Check formatting and lints, as CI does
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --all-features -- -D warnings

fmt: ## Format the code
	cargo fmt --all

bench: ## Run the benchmarks
	scripts/test-postgres exec cargo bench --workspace

# Built first: a build that fails must not leave an empty schema behind.
schema: ## Write schema.graphql
	cargo build --package api
	cargo run --quiet --package api -- schema > schema.graphql

serve: ## Run the server on http://127.0.0.1:8080
	cargo run --release --package api -- serve

deny: ## Check dependencies: advisories, licences, sources
	@command -v cargo-deny >/dev/null || { echo "cargo-deny is not installed: cargo install --locked cargo-deny" >&2; exit 1; }
	cargo deny check
