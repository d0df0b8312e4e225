#!/bin/bash
# Compares generated files with the golden ones of the same names, or replaces the golden ones by them.
#
# usage: golden.sh compare|update GENERATED...   Paths are those of runfiles.
set -euo pipefail

readonly golden=tests/codegen/golden
readonly mode=$1
shift
status=0

compare() {
  local generated expected
  for generated; do
    diff -u "$golden/${generated##*/}" "$generated" || status=1
  done
  # Nor may a golden file be left of something that is not generated any more.
  for expected in "$golden"/*.ferry.*; do
    [[ " $* " == *"/${expected##*/} "* ]] || { echo "nothing generates $expected"; status=1; }
  done
  [[ $status -eq 0 ]] || echo 'if this is meant to be so: bazel run //tests/codegen:update_golden'
}

update() {
  local target=$BUILD_WORKSPACE_DIRECTORY/$golden
  rm -f "$target"/*.ferry.*
  cp "$@" "$target/"
  chmod 644 "$target"/*.ferry.*
  echo "wrote $# files to $target"
}

case $mode in
  compare) compare "$@" ;;
  update) update "$@" ;;
esac
exit "$status"
