#!/usr/bin/env bash
# Installs the vendors' SDKs that the tests use, a browser for the admin page and for browser SDKs, a Redis server, and with the
# packages of Python and Node two servers that speak DynamoDB's protocol.
# Quick if everything is installed already.
set -euo pipefail
cd "$(dirname "$0")"

missing() { # reports what is missing; in CI that is a failure, elsewhere the tests are skipped with a note
  echo "sdks: $1"
  if [ -n "${CI:-}" ]; then exit 1; fi
}

if command -v npm >/dev/null; then
  if [ ! -f node/node_modules/.installed ] || [ node/package-lock.json -nt node/node_modules/.installed ]; then
    (cd node && npm ci --no-audit --no-fund --loglevel=error && touch node_modules/.installed)
  fi
else
  missing "npm is missing, so the Node SDKs cannot be installed"
fi

if command -v python3 >/dev/null; then
  if [ ! -f python/.venv/.installed ] || [ python/requirements.txt -nt python/.venv/.installed ]; then
    python3 -m venv python/.venv
    # Not with its `pip` script, which contains the path of the folder that it was created in: a copied one would
    # install elsewhere.
    python/.venv/bin/python -m pip install --quiet --disable-pip-version-check -r python/requirements.txt
    touch python/.venv/.installed
  fi
else
  missing "python3 is missing, so the Python SDK cannot be installed"
fi

if command -v go >/dev/null; then
  if [ ! -f go/bin/.installed ] || [ -n "$(find go -name '*.go' -newer go/bin/.installed -o -name 'go.*' -newer go/bin/.installed)" ]; then
    # Without C and without version control, so that neither is needed.
    (cd go && CGO_ENABLED=0 go build -buildvcs=false -trimpath -o bin/ ./... && touch bin/.installed)
  fi
else
  missing "go is missing, so the Go SDKs cannot be built"
fi

if [ ! -f rust/target/.installed ] || [ -n "$(find rust -name target -prune -o -newer rust/target/.installed -name '*.rs' -print -o -newer rust/target/.installed -name 'Cargo.*' -print)" ]; then
  # Tests and the program of the SDK share these crates, so they are built together.
  (cd rust && cargo test --quiet --no-run --target-dir target && touch target/.installed)
fi

if ! command -v chromium >/dev/null && ! command -v google-chrome >/dev/null && ! command -v chromium-browser >/dev/null; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium >/dev/null
  else
    missing "no Chromium or Chrome found, so neither the page nor the browser SDKs can be tested"
  fi
fi

if ! command -v redis-server >/dev/null; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends redis-server >/dev/null
  else
    missing "no redis-server found, so the persistent store cannot be tested"
  fi
fi
echo "sdks: installed"
