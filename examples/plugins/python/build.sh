#!/bin/sh
# Builds python-event-filter.wasm in this folder, or in the one given as argument. The first run installs the compiler.
set -eu

source_folder=$(cd "$(dirname "$0")" && pwd)
mkdir -p "${1:-$source_folder}"
output=$(cd "${1:-$source_folder}" && pwd)/python-event-filter.wasm
cd "$source_folder"
wit=../../../wit/v0.1
tools=../.tools

if [ -f "$output" ] && [ -z "$(find app.py build.sh ../install.sh "$wit" -newer "$output")" ]; then
    echo "$output is up to date"
    exit 0
fi

../install.sh componentize-py
# With a leading dot: the gateway ignores such files, so a half-written component is never loaded.
temporary=$(dirname "$output")/.python-event-filter.$$.tmp
trap 'rm -f "$temporary"' EXIT
# --stub-wasi: the component imports only the plugin interface.
"$tools/componentize-py/bin/componentize-py" --wit-path "$wit" --world event-filter-plugin \
    componentize app --stub-wasi --output "$temporary"
mv "$temporary" "$output"
echo "built $output"
