#!/usr/bin/env bash
# Asks a fresh server what a peer's own tests expect, and fails when less passes than did before.
# Usage: tests/conformance.sh FOLDER   (a folder with run_conformance.py and its data, which are not ours and not in this tree)
# KYMO is the program, which is built where it is not given.
set -euo pipefail
folder=$(cd "${1:?usage: tests/conformance.sh FOLDER}" && pwd)
cd "$(dirname "$0")/.."
# Raise it when more passes; never lower it.
passes_min=$(cat tests/conformance.min)

[ -n "${KYMO:-}" ] || cargo build --locked --bin kymo
kymo=${KYMO:-${CARGO_TARGET_DIR:-target}/debug/kymo}

# Statements: all must parse, or fail with the expected text.
python3 tests/conformance_statements.py "$kymo" "$folder/influxql_statements.json"

work=$(mktemp -d)
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$kymo" serve --data-dir "$work/data" --http "127.0.0.1:$port" --line-tcp off --line-udp off --statsd off \
    --host-metrics off >"$work/log" 2>&1 &
pid=$!
trap 'kill "$pid" 2>/dev/null || true; wait "$pid" 2>/dev/null || true; rm -rf "$work"' EXIT
for _ in $(seq 300); do
    curl -sf "http://127.0.0.1:$port/ping" && break
    kill -0 "$pid" 2>/dev/null || { cat "$work/log"; exit 1; }
    sleep 0.1
done
# The runner's exit code says whether everything passes; what counts here is that nothing is lost.
python3 "$folder/run_conformance.py" --url "http://127.0.0.1:$port" >"$work/report" || true
tail -n 1 "$work/report"
passed=$(tail -n 1 "$work/report" | sed -n 's/^\([0-9]*\) passed.*/\1/p')
if [ "${passed:-0}" -lt "$passes_min" ]; then
    grep FAIL "$work/report" || cat "$work/report"
    echo "only ${passed:-0} pass; it was $passes_min before" >&2
    exit 1
fi
