#!/bin/sh
# Builds wat-event-filter.wasm in this folder, or in the one given as argument. The first run installs `wasm-tools`.
set -eu

source_folder=$(cd "$(dirname "$0")" && pwd)
mkdir -p "${1:-$source_folder}"
output=$(cd "${1:-$source_folder}" && pwd)/wat-event-filter.wasm
cd "$source_folder"
wit=../../../wit/v0.1
tools=../.tools

if [ -f "$output" ] && [ -z "$(find event-filter.wat build.sh ../install.sh "$wit" -newer "$output")" ]; then
    echo "$output is up to date"
    exit 0
fi

../install.sh wasm-tools
mkdir -p build
"$tools/bin/wasm-tools" component embed "$wit" --world event-filter-plugin event-filter.wat --output build/embedded.wasm
# With a leading dot: the gateway ignores such files, so a half-written component is never loaded.
temporary=$(dirname "$output")/.wat-event-filter.$$.tmp
trap 'rm -f "$temporary"' EXIT
"$tools/bin/wasm-tools" component new build/embedded.wasm --output "$temporary"
mv "$temporary" "$output"
echo "built $output"
