#!/bin/bash
# Builds programs that use Ferry, in workspaces of their own, and runs them.
#
# One workspace and one build server serve all the cases, which only replace WORKSPACE or add folders: Ferry is then
# compiled once. Everything is below TEST_TMPDIR, so that no cache outside it can hide a fault or grow for ever.
set -euo pipefail

ferry=$(realpath "$(dirname "$(realpath "${BASH_SOURCE[0]}")")/../..")
workspaces=$ferry/tests/consumer/workspaces
consumer=$TEST_TMPDIR/consumer
archive=$TEST_TMPDIR/ferry.tar.gz
sockets=$(mktemp -d) # not below TEST_TMPDIR: the path of a Unix socket must be short
server=

# Bazel in the consumer's workspace, knowing nothing of this test's environment.
bazel() {
  (cd "$consumer" && env -i PATH=/usr/bin:/bin HOME="$TEST_TMPDIR" \
    /usr/bin/bazel --output_user_root="$TEST_TMPDIR/bazel" --max_idle_secs=60 "$@")
}

clean_up() {
  [[ -z $server ]] || kill -KILL "$server" 2>/dev/null || true
  [[ ! -d $TEST_TMPDIR/bazel ]] || bazel shutdown || true
  chmod -R u+w "$TEST_TMPDIR"
  rm -rf "$sockets" "$TEST_TMPDIR/bazel"
}

build() {
  bazel build --nosandbox_debug --noshow_progress --verbose_failures "$@"
}

fail() {
  echo "FAILED: $*" >&2
  exit 1
}

# Builds the target $1, which must fail and say each of the texts $2 and so on.
fail_to_build() {
  local output text
  ! output=$(build "$1" 2>&1) || fail "$1 was built"
  for text in "${@:2}"; do
    [[ $output == *"$text"* ]] || fail "the error of $1 does not say '$text': $output"
  done
}

# Adds the files of the folder $1 to the consumer's workspace. A BUILD file is named BUILD.consumer there, or Bazel would
# take the folder for a package of Ferry's.
add() {
  cp -r "$workspaces/$1/." "$consumer"
  local file
  find "$consumer" -name BUILD.consumer | while IFS= read -r file; do
    mv "$file" "${file%.consumer}.bazel"
  done
}

# Makes the file $1 the consumer's WORKSPACE.
use_workspace() {
  sed -e "s|FERRY_PATH|$ferry|" -e "s|FERRY_ARCHIVE|$archive|" \
    -e "s|FERRY_SHA256|$(sha256sum "$archive" | cut -d ' ' -f 1)|" "$1" >"$consumer/WORKSPACE"
}

# Starts the consumer's server, calls it with the consumer's client, which must print $1, and stops the server.
call_greeter() {
  local address=unix:$sockets/greeter tries reply status=0
  rm -f "$sockets/greeter"
  "$consumer/bazel-bin/server" "$address" &
  server=$!
  for ((tries = 0; tries < 200; ++tries)); do
    [[ ! -S $sockets/greeter ]] || break
    sleep 0.05
  done
  reply=$(timeout 20 "$consumer/bazel-bin/client" "$address" consumer)
  [[ $reply == "$1" ]] || fail "the client printed '$reply', not '$1'"
  kill -TERM "$server"
  wait "$server" || status=$?
  # 143: a server that does not handle the signal.
  [[ $status -eq 0 || $status -eq 143 ]] || fail "the server ended with $status"
  server=
}

# Prints the block of code that follows the line "`$1`:" in the README.
readme_code() {
  awk -v name="\`$1\`:" '$0 == name { found = 1; next } /^```/ && found { if (inside) exit; inside = 1; next } inside' \
    "$ferry/README.md"
}

mkdir -p "$consumer"
trap clean_up EXIT
add plain
tar --create --gzip --file="$archive" --directory="$ferry" --transform='s,^\./,ferry/,' \
  --exclude='./bazel-*' --exclude=./.git --exclude=./.cache --exclude=./user.bazelrc .

echo '== through local_repository'
use_workspace "$consumer/WORKSPACE.local_repository"
build //...
call_greeter 'hello consumer'

echo '== through http_archive'
use_workspace "$consumer/WORKSPACE.http_archive"
build //...
call_greeter 'hello consumer'

echo "== the README's hello world"
for file in greeter.proto BUILD.bazel server.cc client.cc; do
  readme_code "$file" >"$consumer/$file"
done
build //...
call_greeter 'hello world'
add plain

echo '== with its own folders rpc/ and transport/'
add own_folders
build //...
[[ $("$consumer/bazel-bin/app/own_folders") == *"the consumer's rpc/server.h"* ]] || fail "not the consumer's header"

echo '== with its own Abseil and Protocol Buffers'
add own_dependencies
use_workspace "$consumer/WORKSPACE.own_dependencies"
build //... @com_google_absl//consumer:marker @com_google_protobuf//consumer:marker
call_greeter 'hello consumer'

echo '== with mistakes'
add bad_targets
fail_to_build //bad:bad_timeout_ferry 'Generating Ferry services of //bad:bad_timeout_ferry failed' \
  'bad_timeout.proto: Sleeper.Sleep: timeout is -1s, must be at least 1us'
fail_to_build //bad:no_proto_ferry '//bad:no_proto_ferry' "'//bad:no_proto'" 'expected proto_library'
fail_to_build //no_deps:no_deps_ferry 'ferry_cc_library //no_deps:no_deps_ferry: deps is empty'
