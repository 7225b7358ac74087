#!/usr/bin/env bash
# Asks Kymo and InfluxDB 1.6.7 (Debian's influxdb) the same random queries; see tests/differential/differential.py.
# Usage: tests/differential.sh [QUERIES [SEED]]; KYMO is the program, which is built where it is not given.
set -euo pipefail
cd "$(dirname "$0")/.."
queries=${1:-4000}
seed=${2:-1}
[ -n "${KYMO:-}" ] || cargo build --locked --bin kymo
exec python3 tests/differential/differential.py --kymo "${KYMO:-${CARGO_TARGET_DIR:-target}/debug/kymo}" \
    --queries "$queries" --seed "$seed"
