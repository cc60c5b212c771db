#!/bin/sh
# Installs the tools that plugins in other languages are built with, from package registries, into `.tools` beside this
# script, or into the folder YARDARM_TOOLS, which several plugins can share. What is there already is left alone.
#
#   ./install.sh                    everything
#   ./install.sh wit-bindgen zig    these tools
set -eu

tools=${YARDARM_TOOLS:-$(cd "$(dirname "$0")" && pwd)/.tools}
mkdir -p "$tools"
tools=$(cd "$tools" && pwd)

# One installation at a time, where there is `flock`: the others wait, and find the tools in place.
if [ -z "${YARDARM_TOOLS_LOCKED:-}" ] && command -v flock >/dev/null; then
    export YARDARM_TOOLS_LOCKED=true
    exec flock "$tools/.lock" sh "$0" "$@"
fi

wit_bindgen=0.61.1
wasm_tools=1.253.0
zig=0.16.0
componentize_py=0.25.1
# The crate that carries the adapter from WASI preview 1, which Go is compiled for, to components.
adapter=48.0.8

# Everything is installed as far as possible; in CI, and if a tool was asked for, it must be possible.
[ $# -eq 0 ] && [ -z "${CI:-}" ] && is_required=false || is_required=true
needs() {
    command -v "$1" >/dev/null && return 0
    echo "install.sh: $1 is missing, so $2 cannot be installed" >&2
    ! $is_required || exit 1
    return 1
}

# Without optimization, which takes a third of the time: the tools run for less than a second each. They share crates, so
# they share a folder for building.
cargo_install() {
    echo "installing $1 $2"
    CARGO_INCREMENTAL=0 cargo install --quiet --locked --debug --root "$tools" --target-dir "$tools/target" \
        "$1" --version "$2" --no-default-features --features "$3"
}

# A folder of Python packages of their own; not by its `pip` script, which contains the path of the folder.
pip_install() {
    echo "installing $2"
    python3 -m venv "$tools/$1"
    "$tools/$1/bin/python" -m pip install --quiet --disable-pip-version-check "$2"
}

# Each tool leaves a mark with its version once it is complete.
install() {
    case $1 in
        wit-bindgen) version=$wit_bindgen needed=cargo ;;
        wasm-tools) version=$wasm_tools needed=cargo ;;
        adapter) version=$adapter needed=cargo ;;
        zig) version=$zig needed=python3 ;;
        componentize-py) version=$componentize_py needed=python3 ;;
        *) echo "install.sh: there is no tool \`$1\`" >&2 && exit 2 ;;
    esac
    mark=$tools/$1.$version.installed
    [ ! -f "$mark" ] || return 0
    needs "$needed" "$1" || return 0
    rm -f "$tools/$1".*.installed
    case $1 in
        wit-bindgen) cargo_install wit-bindgen-cli "$version" c,go ;;
        wasm-tools) cargo_install wasm-tools "$version" component,parse ;;
        zig) pip_install zig "ziglang==$version" ;;
        adapter) vendor_adapter ;;
        componentize-py) pip_install componentize-py "componentize-py==$version" ;;
    esac
    touch "$mark"
}

# The adapter is a file inside a crate, so the crate is fetched and not built.
vendor_adapter() {
    echo "fetching the adapter for Go"
    crate=$tools/adapter
    mkdir -p "$crate/src"
    : >"$crate/src/lib.rs"
    cat >"$crate/Cargo.toml" <<TOML
[package]
name = "adapter"
edition = "2024"
[dependencies]
wasi-preview1-component-adapter-provider = "=$version"
[workspace]
TOML
    cargo vendor --quiet --manifest-path "$crate/Cargo.toml" "$crate/vendor" >/dev/null
    cp "$crate/vendor/wasi-preview1-component-adapter-provider/artefacts/wasi_snapshot_preview1.reactor.wasm" "$tools"
}

[ $# -gt 0 ] || set -- wit-bindgen wasm-tools zig componentize-py adapter
for tool in "$@"; do
    install "$tool"
done
# Only needed while both are built.
if [ -f "$tools/wit-bindgen.$wit_bindgen.installed" ] && [ -f "$tools/wasm-tools.$wasm_tools.installed" ]; then
    rm -rf "$tools/target"
fi
