#!/bin/sh
# Builds javascript-event-filter.wasm in this folder, or in the one given as argument.
#
# The first run installs the compiler (38 MB, from the npm registry) into node_modules; later runs fetch nothing.
# Does nothing if the component is newer than all its sources.
set -eu

source_folder=$(cd "$(dirname "$0")" && pwd)
mkdir -p "${1:-$source_folder}"
output=$(cd "${1:-$source_folder}" && pwd)/javascript-event-filter.wasm
cd "$source_folder"
wit=../../../wit/v0.1

fail() {
    echo "build.sh: $1" >&2
    exit 1
}

if [ -f "$output" ] && [ -z "$(find event-filter.mjs package.json build.sh "$wit" -newer "$output")" ]; then
    echo "$output is up to date"
    exit 0
fi

command -v node >/dev/null || fail "node is missing; version 18 or later is needed"
command -v npm >/dev/null || fail "npm is missing; it comes with node"
[ -d "$wit" ] || fail "the interface is missing: $source_folder/$wit"

compiler=node_modules/.bin/componentize-qjs
installed=node_modules/.package-lock.json
if [ ! -x "$compiler" ] || [ ! -f "$installed" ] || [ -n "$(find package.json -newer "$installed")" ]; then
    echo "installing componentize-qjs into $source_folder/node_modules"
    # Versions are exact, here and in the compiler's own dependencies, so a lock file would add nothing.
    npm install --no-package-lock --no-audit --no-fund --loglevel=error || fail "npm could not install componentize-qjs; is its registry reachable?"
fi

# With a leading dot: the gateway ignores such files, so a half-written component is never loaded.
temporary=$(dirname "$output")/.javascript-event-filter.$$.tmp
trap 'rm -f "$temporary"' EXIT
# --sync: without it the component needs async components; --opt-size: 1.1 instead of 1.6 MB;
# --stub-wasi: the component imports only the plugin interface.
"$compiler" --wit "$wit" --world event-filter-plugin --js event-filter.mjs --sync --opt-size --stub-wasi \
    --output "$temporary" >/dev/null || fail "event-filter.mjs does not compile, see above"
mv "$temporary" "$output"
echo "built $output"
