#!/bin/sh
# Builds the examples in all languages, or in those given as arguments: ./build.sh c go
#
# A language whose compiler is missing is left out with a note; with `CI` set, that is a failure.
set -eu
cd "$(dirname "$0")"

# Prints the command that a language needs besides `cargo`, or nothing.
needs() {
    case $1 in
        c | python) echo python3 ;;
        go) echo go ;;
        javascript) echo npm ;;
    esac
}

[ $# -gt 0 ] || set -- rust javascript python go c wat
for language in "$@"; do
    for command in $(needs "$language"); do
        if ! command -v "$command" >/dev/null; then
            echo "examples: $command is missing, so the plugin in $language cannot be built" >&2
            [ -z "${CI:-}" ] || exit 1
            continue 2
        fi
    done
    "$language/build.sh"
done
