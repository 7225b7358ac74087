#!/usr/bin/env bash
# Runs every command of README.md as it stands there: the server from the first block, what follows against it.
# Needs the default ports to be free. The tests' own command is run by .ci/run.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
export KYMO_DATA_DIR=$work/data

# The sh blocks, one file each.
awk -v work="$work" '/^```sh$/ { n++; inside = 1; next } /^```$/ { inside = 0 } inside { print > (work "/block" n) }' README.md
blocks=("$work"/block*)
[ "${#blocks[@]}" -ge 5 ] || { echo "README.md has fewer sh blocks than it should" >&2; exit 1; }
grep -q '^cargo run --release' "$work/block1"

cargo build --release --locked
bash -e "$work/block1" >"$work/server" 2>&1 &
trap 'pkill -TERM -P "$server" 2>/dev/null || true; cat "$work/server"; rm -rf "$work"' EXIT
server=$!
for _ in $(seq 600); do
    curl -sf http://127.0.0.1:8086/ping >/dev/null && break
    kill -0 "$server" || exit 1
    sleep 0.1
done
sleep 2

# The blocks share the variables a reader sets once. `live` runs until it is interrupted.
: >"$work/session"
for block in "${blocks[@]:1}"; do
    grep -q '^cargo test' "$block" && continue
    sed 's/^\$kymo live/timeout -s INT 3 $kymo live/' "$block" >>"$work/session"
done
sed -i "s|^kymo=target/release|kymo=${CARGO_TARGET_DIR:-target}/release|" "$work/session"
cat "$work/session"
code=0
bash -e "$work/session" >"$work/answers" 2>"$work/errors" || code=$?
cat "$work/answers" "$work/errors"
# `timeout` says 124 when it had to interrupt.
[ "$code" = 0 ] || [ "$code" = 124 ]
for expected in '"host":"a"' '"host":"b"' used mean; do
    grep -q "$expected" "$work/answers" || { echo "README.md's commands did not answer $expected" >&2; exit 1; }
done
