#!/bin/bash
# ./dev check [STEP...]: runs every step, or those named, even after one has failed; fails if any did.
set -euo pipefail

source bazel/tools/common.sh

readonly all_steps=(format tidy clang asan tsan)
# With what is "manual", since its packages are needed for nothing else.
readonly all_targets=(
  //... //benchmarks/grpc:grpc_echo //benchmarks/grpc:load_with_grpc //tests/benchmarks:grpc_smoke_test
)
readonly buildifier_version=8.2.1
readonly buildifier_dir=.cache/buildifier-$buildifier_version

# Prints the files that belong to the tree and match the pathspecs $@, each ended by NUL.
own_files() {
  git ls-files -z --cached --others --exclude-standard --deduplicate -- "$@" |
    while IFS= read -r -d '' file; do
      [[ ! -f $file ]] || printf '%s\0' "$file"
    done
}

install_buildifier() {
  [[ ! -x $buildifier_dir/node_modules/.bin/buildifier ]] || return 0
  npm install --silent --no-audit --no-fund --prefix "$buildifier_dir" "@bazel/buildifier@$buildifier_version"
}

check_format() {
  local status=0
  own_files '*.h' '*.cc' | xargs -0r clang-format --dry-run --ferror-limit=1 -Werror || status=1

  install_buildifier &&
    own_files '*.bazel' '*.bzl' '*WORKSPACE' '*WORKSPACE.*' |
    xargs -0r "$buildifier_dir/node_modules/.bin/buildifier" -mode=check -lint=warn || status=1

  local scripts
  mapfile -d '' -t scripts < <(own_files dev .ci/run '*.sh')
  local script
  for script in "${scripts[@]}"; do
    bash -n "$script" || status=1
  done
  shellcheck --external-sources "${scripts[@]}" || status=1
  return "$status"
}

# Headers are checked as part of the sources that include them. Builds first: the sources include generated headers.
# The library comes before its tests: if FERRY_TIDY_SECONDS is set, what is not begun in that time is named and left out.
check_tidy() {
  bazel build --config=clang --keep_going "${all_targets[@]}"
  make_temp_dir
  /usr/bin/python3 bazel/tools/compile_commands.py "${all_targets[@]}" --config=clang | sort >"$temp_dir/compiled"
  own_files '*.cc' ':!tests/codegen/golden' ':!tests/consumer/workspaces' | tr '\0' '\n' | sort >"$temp_dir/own"
  local status=0 until
  until=$(($(date +%s) + ${FERRY_TIDY_SECONDS:-1000000}))
  comm -12 "$temp_dir/own" "$temp_dir/compiled" >"$temp_dir/files"
  { grep --invert-match '^tests/' "$temp_dir/files"; grep '^tests/' "$temp_dir/files"; } |
    xargs -r --max-args=1 --max-procs="$(nproc)" bazel/tools/tidy_file.sh "$until" "$temp_dir/late" \
      2> >(grep --invert-match 'warnings\? generated' >&2) || status=1
  [[ ! -e $temp_dir/late ]] || sed 's/$/: no time was left to check it/' "$temp_dir/late"
  comm -23 "$temp_dir/own" "$temp_dir/compiled" | sed 's/$/: no target compiles it/' | tee "$temp_dir/dead" >&2
  [[ ! -s $temp_dir/dead ]] || status=1
  return "$status"
}

check_clang() {
  bazel build --config=clang --keep_going "${all_targets[@]}"
}

check_asan() {
  bazel test --config=asan --keep_going //...
}

check_tsan() {
  bazel test --config=tsan --keep_going //...
}

for step in "$@"; do
  [[ " ${all_steps[*]} " == *" $step "* ]] || die "check: there is no step '$step', only ${all_steps[*]}"
done
steps=("$@")
[[ $# -gt 0 ]] || steps=("${all_steps[@]}")

ensure_packages check
failures=0
table=()
for step in "${steps[@]}"; do
  heading "check $step"
  started=$SECONDS
  # Not `if (...)`: bash ignores `set -e` in a condition.
  set +e
  (set -e && "check_$step")
  status=$?
  set -e
  result=ok
  if [[ $status -ne 0 ]]; then
    result=FAILED
    failures=$((failures + 1))
  fi
  table+=("$(printf '%-8s %-6s %4d s' "$step" "$result" $((SECONDS - started)))")
done
printf '\n'
printf '%s\n' "${table[@]}"
[[ $failures -eq 0 ]]
