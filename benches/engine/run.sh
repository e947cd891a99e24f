#!/bin/sh
# Builds and measures one version: ./run.sh VERSION [FLAGS FOR THE ENGINE'S C CODE]
#   ./run.sh 0.11.0
#   ./run.sh 0.14.0 -D__SANITIZE_ADDRESS__ -DNDEBUG
# Writes results/VERSION[flags].txt anew. WHAT="memory speed conformance" chooses parts of it.
set -eu
cd "$(dirname "$0")"
version=$1
shift
flags=$*
name=$version$(printf %s "$flags" | tr -c 'A-Za-z0-9\n' _)
what=${WHAT:-memory speed conformance}
# A folder for each, so that all binaries stay for regress.sh and for runs in turns.
export CARGO_TARGET_DIR="$PWD/target/$name"
export CFLAGS="$flags"
[ -f Cargo.lock ] || cargo generate-lockfile --quiet
cargo update --quiet rquickjs --precise "$version"
cargo build --release --quiet
bench="$CARGO_TARGET_DIR/release/engine-bench"
mkdir -p results
out="results/$name.txt"
: > "$out"
say() { tee -a "$out"; }

{ printf 'flags\t%s\n' "$flags"; "$bench" version; } | say
case $what in *memory*)
  for alloc in libc rust mimalloc; do
    for set in full volley; do
      "$bench" memory $alloc $set none 2000 | sed "s/^/bare, $alloc, $set: /" | say
    done
  done
  for alloc in libc mimalloc; do
    "$bench" memory $alloc volley bundles/small.js 500 | sed "s/^/small bundle, $alloc: /" | say
    "$bench" memory $alloc volley bundles/large.js 100 | sed "s/^/large bundle, $alloc: /" | say
  done ;;
esac
case $what in *speed*)
  "$bench" speed libc all "${ROUNDS:-7}" | sed 's/^/libc: /' | say
  "$bench" speed mimalloc all "${ROUNDS:-7}" | sed 's/^/mimalloc: /' | say ;;
esac
case $what in *conformance*)
  "$bench" poll-counter | say
  "$bench" stopping | sed 's/^/stopping: /' | say
  "$bench" conformance | sed 's/^/feature: /' | say ;;
esac
