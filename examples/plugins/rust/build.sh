#!/bin/sh
# Builds rust-event-filter.wasm in this folder, or in the one given as argument.
set -eu

source_folder=$(cd "$(dirname "$0")" && pwd)
mkdir -p "${1:-$source_folder}"
output=$(cd "${1:-$source_folder}" && pwd)/rust-event-filter.wasm
cd "$source_folder"

if ! rustup target list --installed | grep -q wasm32-wasip2; then
    rustup target add wasm32-wasip2
fi
cargo build --quiet --release --target wasm32-wasip2 --target-dir target
# With a leading dot: the gateway ignores such files, so a half-written component is never loaded.
temporary=$(dirname "$output")/.rust-event-filter.$$.tmp
trap 'rm -f "$temporary"' EXIT
cp target/wasm32-wasip2/release/rust_event_filter.wasm "$temporary"
mv "$temporary" "$output"
echo "built $output"
