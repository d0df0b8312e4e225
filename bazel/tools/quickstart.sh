#!/bin/bash
# ./dev quickstart: builds the greeter, calls it over TCP and a Unix socket, puts a short load on both, and shows the
# code that did it. Every wait is bounded and nothing is left running.
set -euo pipefail

source bazel/tools/common.sh

readonly greeter=examples/greeter
readonly wait_limit=10   # seconds until the server must have started, or stopped
readonly load_seconds=3

server=
foreground=

# Ends the child $1: kindly, and if it has not ended in time, at once.
end_child() {
  local tries
  kill -TERM "$1" 2>/dev/null || return 0
  for ((tries = 0; tries < wait_limit * 20; ++tries)); do
    kill -0 "$1" 2>/dev/null || return 0
    sleep 0.05
  done
  kill -KILL "$1" 2>/dev/null || true
}

clean_up() {
  [[ -z $foreground ]] || end_child "$foreground"
  [[ -z $server ]] || end_child "$server"
  rm -rf "$temp_dir"
  # The build server too, unless another command is using it.
  "$bazel" --noblock_for_lock shutdown 2>/dev/null || true
}

# Runs "${@:2}" for at most $1 seconds. In the background, so that a signal reaches clean_up at once.
run_for() {
  timeout --kill-after="$wait_limit" "$@" &
  foreground=$!
  local status=0
  wait "$foreground" || status=$?
  foreground=
  [[ $status -ne 124 ]] || echo "quickstart: ended after $1 seconds: ${*:2}" >&2
  return "$status"
}

# Starts the server and sets `addresses` to where it listens.
start_server() {
  local tries
  "bazel-bin/$greeter/greeter_server" 127.0.0.1:0 "unix:$temp_dir/greeter.sock" >"$temp_dir/server" &
  server=$!
  for ((tries = 0; tries < wait_limit * 20; ++tries)); do
    mapfile -t addresses < <(sed -n 's/^listening on //p' "$temp_dir/server")
    [[ ${#addresses[@]} -lt 2 ]] || return 0
    kill -0 "$server" 2>/dev/null || die 'quickstart: the server ended before it was listening'
    sleep 0.05
  done
  die "quickstart: the server is not listening after $wait_limit seconds"
}

stop_server() {
  local pid=$server status=0
  end_child "$pid"
  server=
  wait "$pid" || status=$?
  [[ $status -eq 0 ]] || die "quickstart: the server ended with $status"
}

# Prints what stands in file $1 between its lines [quickstart] and [/quickstart].
show() {
  local lines
  lines=$(sed -n '\|\[quickstart\]|,\|\[/quickstart\]|{\|\[/*quickstart\]|d;p}' "$1")
  [[ -n $lines ]] || die "quickstart: $1 has no lines between [quickstart] and [/quickstart]"
  printf '\n-- %s\n%s\n' "$1" "$lines"
}

ensure_packages build
temp_dir=$(mktemp -d)
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

heading 'build'
bazel build "//$greeter/..." //benchmarks:load

heading 'call'
start_server
for address in "${addresses[@]}"; do
  echo "$address"
  run_for 20 "bazel-bin/$greeter/greeter_client" "$address"
done
stop_server

heading "load, $load_seconds seconds each"
run_for 60 bazel-bin/benchmarks/load --workload=unary --impl=ferry,floor --transports=tcp,unix --rounds=1 \
  --seconds="$load_seconds"

heading 'the code that did it'
for file in greeter.proto BUILD.bazel greeter_server.cc greeter_client.cc; do
  show "$greeter/$file"
done
