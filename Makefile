# The commands of this project. `make demo` and `make test` are all that a newcomer needs.

PLUGINS := plugins/target/wasm32-wasip2/release
# One profile for everything but the benchmark, so that the WebAssembly compiler is built once.
CARGO_FLAGS ?=
DEMO_ARGS ?=
BENCH_ARGS ?=

.PHONY: demo setup test test-fast plugins example-plugins lint bench fuzz clean help

help: ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

demo: plugins ## Build everything and run the gateway against a fake cloud; no account, no network
	@echo "== building the gateway (the first time this takes some minutes: it contains a compiler)"
	cargo build $(CARGO_FLAGS) --package yardarm
	@echo "== running the demo"
	cargo run --quiet $(CARGO_FLAGS) --package yardarm -- demo $(DEMO_ARGS)

plugins: ## Build the sample plugins to WebAssembly components
	@echo "== building the sample plugins"
	@rustup target list --installed | grep -q wasm32-wasip2 || rustup target add wasm32-wasip2
	cd plugins && cargo build --release
	@ls -l $(PLUGINS)/*.wasm

example-plugins: ## Build the event filters in every language; installs their compilers (CONTRIBUTING.md has what is needed)
	@echo "== building the example plugins in every language (the first time this takes some minutes: it installs their tools)"
	examples/plugins/build.sh

setup: ## Install what the tests need: the vendors' SDKs, a browser, Redis (by apt-get where it may), tools for plugins
	@echo "== installing SDKs, a browser, Redis and tools for plugins, where they are missing"
	tests/sdks/install.sh
	examples/plugins/install.sh

test-fast: ## Run the tests that need no network and no installation: units, and the rules of the house
	@echo "== testing the crates"
	cargo test $(CARGO_FLAGS) --workspace --lib --bins
	@echo "== testing the rules of the house"
	cargo test $(CARGO_FLAGS) --package yardarm --test tests house::
	@echo "make test-fast: OK"

test: plugins example-plugins ## Run all tests; installs what they need first (make setup)
	@echo "== make test runs make setup first"
	$(MAKE) setup
	@echo "== testing the plugins and their SDK"
	cd plugins && cargo native-test
	@echo "== comparing evaluations with those of LaunchDarkly's own crate"
	cd tests/sdks/rust && cargo test --target-dir target
	@echo "== testing the gateway"
	cargo test $(CARGO_FLAGS) --workspace
	@echo "make test: OK, all tests passed"

lint: ## Formatting, lints and documentation, as CI demands them
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy --workspace --lib -- -D warnings --cfg fuzzing
	cargo clippy --package yardarm --lib --bins --no-default-features -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps
	cd plugins && cargo fmt --all --check && cargo native-clippy -- -D warnings
	cd tests/sdks/rust && cargo fmt --check && cargo clippy --target-dir target --all-targets -- -D warnings
	@echo "make lint: OK"

bench: plugins ## Measure what the gateway costs and print a table with the goals beside the figures
	@echo "== building the gateway as it is released (the first time this takes some minutes), then measuring it"
	cargo bench --package yardarm --bench gateway -- $(BENCH_ARGS)

fuzz: ## Fuzz every parser that meets the network or a guest, one minute each (needs nightly and cargo-fuzz)
	cd host/fuzz && for target in $$(cargo fuzz list); do cargo +nightly fuzz run $$target -- -max_total_time=60 || exit 1; done

clean: ## Remove what was built
	cargo clean
	cd plugins && cargo clean
	rm -rf demo-plugins examples/plugins/.tools examples/plugins/*/*.wasm examples/plugins/rust/target
	rm -rf examples/plugins/*/build examples/plugins/go/bindings examples/plugins/javascript/node_modules
	rm -rf tests/sdks/node/node_modules tests/sdks/python/.venv tests/sdks/go/bin tests/sdks/rust/target
