#!/bin/sh
# Runs the regression tests that ship with one version of the engine on builds of others:
#   ./regress.sh 0.14.0 0.9.0 0.11.0 0.14.0
# The first version lends the tests, the others must have been built by run.sh. One line for each
# test that does not end alike on all of them. Tests that need the engine's own command line are left out.
set -eu
cd "$(dirname "$0")"
lender=$1
shift
tests=$(ls -d "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/rquickjs-sys-"$lender"/quickjs/tests | head -1)
passed() { # of one test on one build: yes, no, or how it died
  code=0
  line=$(timeout 20 "target/$1/release/engine-bench" script "$2" 2>&1) || code=$?
  case $code in
    0) printf '%s' "$line" | tail -1 | cut -c1-60 ;;
    124) echo 'hangs' ;;
    *) echo "dies ($code)" ;;
  esac
}
for test in "$tests"/*.js; do
  case $(basename "$test") in
    assert.js|empty.js|fixture_*|microbench.js|test_worker*|test_std.js) continue ;;
  esac
  if grep -q 'qjs:' "$test"; then continue; fi
  row='' first='' same=yes
  for build in "$@"; do
    result=$(passed "$build" "$test" 2>/dev/null)
    : "${first:=$result}"
    [ "$result" = "$first" ] || same=no
    row="$row	$result"
  done
  # A test that ends alike everywhere says nothing about the versions.
  [ $same = yes ] || printf '%s%s\n' "$(basename "$test")" "$row"
done
