# Shared by ./dev and the scripts beside this file, which run in the root of the workspace.
# shellcheck shell=bash

# Debian's own Bazel, whatever other one comes first on PATH.
readonly bazel=/usr/bin/bazel

readonly build_packages=(
  bazel-bootstrap g++ python3
  libabsl-dev libprotobuf-dev libprotoc-dev protobuf-compiler libssl-dev libc-ares-dev libcurl4-openssl-dev
  libgmock-dev libgtest-dev libbenchmark-dev valgrind dnsmasq-base etcd-server
)
readonly bench_packages=(libgrpc++-dev protobuf-compiler-grpc)
readonly plot_packages=(gnuplot-nox)
readonly check_packages=(
  "${bench_packages[@]}"
  clang clang-format clang-tidy lld llvm libclang-rt-14-dev shellcheck ca-certificates nodejs
)

bazel() {
  local options=()
  # In a log, progress is a line now and then instead of one that redraws itself.
  [[ -t 2 ]] || case "${1:-}" in
    build | test | run) options=(--show_progress_rate_limit=60) ;;
  esac
  "$bazel" "$1" ${options[@]+"${options[@]}"} "${@:2}"
}

heading() {
  printf '\n== %s\n' "$*" >&2
}

die() {
  echo "$*" >&2
  exit 1
}

# Prints those of the Debian packages $@ that are not installed.
missing_packages() {
  local package installed
  installed=$(dpkg-query --show --showformat='${Package} ${db:Status-Status}\n' "$@" 2>/dev/null || true)
  for package in "$@"; do
    grep -qxF "$package installed" <<<"$installed" || echo "$package"
  done
}

# Installs the packages of the group $1 (build, bench, plot or check) that are missing.
ensure_packages() {
  command -v dpkg-query >/dev/null || die 'dpkg-query not found: this command needs Debian 12'
  local wanted=("${build_packages[@]}") missing as_root=()
  if [[ $1 == bench ]]; then
    wanted+=("${bench_packages[@]}")
  elif [[ $1 == plot ]]; then
    wanted+=("${plot_packages[@]}")
  elif [[ $1 == check ]]; then
    wanted+=("${check_packages[@]}")
    # Node's own packages bring npm along and conflict with Debian's.
    command -v npm >/dev/null || wanted+=(npm)
  fi
  mapfile -t missing < <(missing_packages "${wanted[@]}")
  [[ ${#missing[@]} -gt 0 ]] || return 0
  echo "installing ${missing[*]}" >&2
  if [[ $(id -u) -ne 0 ]]; then
    command -v sudo >/dev/null || die "this needs root or sudo; install these packages: ${missing[*]}"
    as_root=(sudo)
  fi
  as_root+=(env DEBIAN_FRONTEND=noninteractive)
  "${as_root[@]}" apt-get update -q >&2 ||
    die "apt-get update failed; these packages are still missing: ${missing[*]}"
  "${as_root[@]}" apt-get install -q -y --no-install-recommends "${missing[@]}" >&2 ||
    die "apt-get install failed; these packages are still missing: ${missing[*]}"
}

# Sets temp_dir to a new directory that is removed when the script ends.
make_temp_dir() {
  temp_dir=$(mktemp -d)
  trap 'rm -rf "$temp_dir"' EXIT
}
