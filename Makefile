# The commands of this project. `make demo` and `make test` are all that a newcomer needs.

PLUGINS := plugins/target/wasm32-wasip2/release
# One profile for everything but the benchmark, so that the WebAssembly compiler is built once.
CARGO_FLAGS ?=
DEMO_ARGS ?=
BENCH_ARGS ?=

.PHONY: demo test plugins example-plugin sdks lint bench fuzz clean help

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

example-plugin: ## Build the event filter that is not written in Rust
	@echo "== building the example plugin in another language"
	examples/plugins/javascript/build.sh

sdks: ## Install the vendor's SDKs that the tests connect, a browser and Redis
	@echo "== installing SDKs for the tests"
	tests/sdks/install.sh

test: plugins example-plugin sdks ## Install what the tests need, and run all of them
	@echo "== testing the plugins and their SDK"
	cd plugins && cargo native-test
	@echo "== testing the gateway"
	cargo test $(CARGO_FLAGS) --workspace
	@echo "make test: OK, all tests passed"

lint: ## Formatting, lints and documentation, as CI demands them
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy --workspace --lib -- -D warnings --cfg fuzzing
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps
	cd plugins && cargo fmt --all --check && cargo native-clippy -- -D warnings
	@echo "make lint: OK"

bench: plugins ## Measure what the gateway costs and print a table with the goals beside the figures
	@echo "== building the gateway as it is released (the first time this takes some minutes), then measuring it"
	cargo bench --package yardarm --bench gateway -- $(BENCH_ARGS)

fuzz: ## Fuzz every parser that meets the network or a guest, one minute each (needs nightly and cargo-fuzz)
	cd host/fuzz && for target in $$(cargo fuzz list); do cargo +nightly fuzz run $$target -- -max_total_time=60 || exit 1; done

clean: ## Remove what was built
	cargo clean
	cd plugins && cargo clean
	rm -rf demo-plugins tests/sdks/node/node_modules tests/sdks/python/.venv tests/sdks/go/bin
