#!/usr/bin/env bash
# Checks a running nowcast against its contract: schemathesis sends valid and invalid requests and checks every
# answer.
# usage: run.sh EXAMPLES
# EXAMPLES is the number of requests an operation. The script starts a `nowcast all` and keeps only the venv.
set -euo pipefail
cd "$(dirname "$0")/../../.."
root=$PWD
examples=${1:-300}
version=4.32.5
venv=bin/schemathesis-$version

python=$(command -v python3 || true)
usable='import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))'
if [ -z "$python" ] || ! "$python" -c "$usable" 2>/dev/null; then
  echo "fuzz-http: LEFT OUT, it needs python 3.10 or newer with venv and pip"
  exit 0
fi
if [ ! -x "$venv/bin/schemathesis" ]; then
  "$python" -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check "schemathesis==$version" || {
    rm -rf "$venv"
    echo "fuzz-http: LEFT OUT, schemathesis can't be fetched"
    exit 0
  }
fi

free() {
  "$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}
dir=$(mktemp -d)
port=$(free) ops=$(free)
bin/nowcast all --listen "127.0.0.1:$port" --ops-listen "127.0.0.1:$ops" --data-dir "$dir/data" \
  >"$dir/log" 2>&1 &
nowcast=$!
trap 'kill "$nowcast" 2>/dev/null || true; wait "$nowcast" || true; rm -rf "$dir"' EXIT
for _ in $(seq 600); do
  curl -fs "http://127.0.0.1:$ops/readyz" 2>/dev/null | grep -q '"degraded":{}' && break
  kill -0 "$nowcast" 2>/dev/null || { cat "$dir/log"; exit 1; }
  sleep 0.1
done

# positive_data_acceptance is excluded: a schema can't say that a site exists, or that a URL has a host where no
# site is named. schemathesis writes caches into its working directory, so that is a temporary one. The first run
# has a sender's rights, the others an admin's. The live stream has no end and is left out (FuzzParseID and
# make hostile test it).
status=0
cd "$dir"
fuzz() {
  SCHEMATHESIS_HOOKS=$root/internal/e2e/fuzzhttp/hooks.py PYTHONDONTWRITEBYTECODE=1 \
    "$root/$venv/bin/schemathesis" run "http://127.0.0.1:$port/api/openapi.yaml" "$@" \
    --phases examples,coverage,fuzzing --max-examples "$examples" --no-color --continue-on-failure ||
    status=$?
}
fuzz --include-path-regex '^/(api/(event|send|batch|visitor)|pixel\.gif|js/script\.js|healthz|readyz)$' --checks all \
  --exclude-checks positive_data_acceptance
admin=(--header "Authorization: Bearer $(cat data/admin.key)" --checks all
  --exclude-checks positive_data_acceptance,ignored_auth)
fuzz --include-path-regex '^/api/v[12]/' --exclude-path '/api/v1/keys/{id}' "${admin[@]}"
fuzz --include-path '/api/v1/keys/{id}' "${admin[@]}" # last, since it may delete the key in use
cd "$root"
curl -fs "http://127.0.0.1:$ops/metrics" | grep '^nowcast_ingest_beacons_total'
if grep -q 'a request failed' "$dir/log"; then
  echo "fuzz-http: a handler panicked:"
  grep -m 3 'a request failed' "$dir/log"
  exit 1
fi
exit "$status"
