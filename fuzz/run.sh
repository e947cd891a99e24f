#!/usr/bin/env bash
# Builds the fuzz targets and runs them: run.sh [TARGET…|all] [SECONDS], each for that long (20).
# FUZZ_SEED makes a run like another one; without it each is different.
# What a run learns is kept in corpus/, what ends it in artifacts/. `run.sh build` only builds.
set -euo pipefail
cd "$(dirname "$0")"

seconds=20
targets=()
for word in "$@"; do
  case $word in
    *[!0-9]*) targets+=("$word") ;;
    *) seconds=$word ;;
  esac
done
if [ "${#targets[@]}" = 0 ] || [ "${targets[0]}" = all ]; then
  targets=(targets/*.rs)
  targets=("${targets[@]#targets/}")
  targets=("${targets[@]%.rs}")
fi

# The counters that libFuzzer reads, as cargo-fuzz has them; its sanitizers would need a nightly
# compiler, and there is little unsafe code for them to watch. They are for the target only, not
# for build scripts: so the target is named.
host=$(rustc -vV | sed -n 's/^host: //p')
counters="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4"
counters+=" -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table"
counters+=" -Cllvm-args=-sanitizer-coverage-trace-compares"
built=${CARGO_TARGET_DIR:-../target}/fuzz
RUSTFLAGS="$counters ${RUSTFLAGS:-}" cargo build --release --locked --target "$host" --target-dir "$built"
[ "${targets[0]}" != build ] || exit 0

# One line for each input that is new, and words for a dictionary.
noise='^#[0-9]+[[:space:]]+(NEW|REDUCE|RELOAD|pulse)|NEW_(FUNC|PC)|# Uses:|ecommended dictionary|__sanitizer_'
failed=()
for target in "${targets[@]}"; do
  mkdir -p "corpus/$target" "artifacts/$target"
  dictionary=()
  [ ! -f "dictionaries/$target" ] || dictionary=("-dict=dictionaries/$target")
  echo "fuzz: $target for $seconds s"
  # A limit of time for each input, of memory for the process; src/lib.rs has one for each input.
  "$built/$host/release/$target" "corpus/$target" "seeds/$target" "${dictionary[@]}" \
    -artifact_prefix="artifacts/$target/" -max_total_time="$seconds" -seed="${FUZZ_SEED:-0}" -timeout=30 -rss_limit_mb=2048 \
    -max_len=8192 -print_final_stats=1 2>&1 | grep --text -Ev "$noise" || failed+=("$target")
done
if [ "${#failed[@]}" -gt 0 ]; then
  echo "fuzz: failed: ${failed[*]}; the inputs are in fuzz/artifacts" >&2
  exit 1
fi
