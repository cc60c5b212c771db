#!/bin/sh
# Builds c-event-filter.wasm in this folder, or in the one given as argument. The first run installs the tools.
#
# The compiler is that of Zig, which contains a C library for WebAssembly; any clang with wasi-libc does as well.
set -eu

source_folder=$(cd "$(dirname "$0")" && pwd)
mkdir -p "${1:-$source_folder}"
output=$(cd "${1:-$source_folder}" && pwd)/c-event-filter.wasm
cd "$source_folder"
wit=../../../wit/v0.1
tools=../.tools
# Where Zig keeps the C library that it builds first.
export ZIG_GLOBAL_CACHE_DIR="$PWD/$tools/zig-cache"

if [ -f "$output" ] && [ -z "$(find ./*.c ./*.h build.sh ../install.sh "$wit" -newer "$output")" ]; then
    echo "$output is up to date"
    exit 0
fi

../install.sh wit-bindgen wasm-tools zig
mkdir -p build
"$tools/bin/wit-bindgen" c "$wit" --world event-filter-plugin --rename-world plugin --out-dir build
# A stack of 64 KiB instead of 16 MiB, which is all of the memory that a plugin gets by default.
"$tools/zig/bin/python" -m ziglang cc --target=wasm32-wasi -std=c11 -O2 -s -Wall -Wextra -Werror \
    -mexec-model=reactor -Wl,-z,stack-size=65536 -I build -o build/core.wasm \
    event_filter.c json.c build/plugin.c build/plugin_component_type.o
# With a leading dot: the gateway ignores such files, so a half-written component is never loaded.
temporary=$(dirname "$output")/.c-event-filter.$$.tmp
trap 'rm -f "$temporary"' EXIT
"$tools/bin/wasm-tools" component new build/core.wasm --output "$temporary"
mv "$temporary" "$output"
echo "built $output"
