#!/bin/sh
# Builds go-event-filter.wasm in this folder, or in the one given as argument. The first run installs the tools.
set -eu

source_folder=$(cd "$(dirname "$0")" && pwd)
mkdir -p "${1:-$source_folder}"
output=$(cd "${1:-$source_folder}" && pwd)/go-event-filter.wasm
cd "$source_folder"
wit=../../../wit/v0.1
tools=../.tools
world=event-filter-plugin

if [ -f "$output" ] && [ -z "$(find main.go filter export_* go.mod build.sh ../install.sh "$wit" -newer "$output")" ]; then
    echo "$output is up to date"
    exit 0
fi

command -v go >/dev/null || { echo "build.sh: go is missing; version 1.25 or later is needed" >&2; exit 1; }
../install.sh wit-bindgen wasm-tools adapter
"$tools/bin/wit-bindgen" go "$wit" --world "$world" --pkg-name event-filter/bindings --export-pkg-name event-filter \
    --out-dir bindings
mkdir -p build
# -checklinkname=0: the package for components uses functions of the runtime that are not public.
GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -buildvcs=false -trimpath -ldflags="-s -w -checklinkname=0" \
    -o build/core.wasm .
"$tools/bin/wasm-tools" component embed "$wit" build/core.wasm --world "$world" --output build/embedded.wasm
# With a leading dot: the gateway ignores such files, so a half-written component is never loaded.
temporary=$(dirname "$output")/.go-event-filter.$$.tmp
trap 'rm -f "$temporary"' EXIT
"$tools/bin/wasm-tools" component new build/embedded.wasm \
    --adapt "wasi_snapshot_preview1=$tools/wasi_snapshot_preview1.reactor.wasm" --output "$temporary"
mv "$temporary" "$output"
echo "built $output"
