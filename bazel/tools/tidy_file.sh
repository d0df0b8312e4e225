#!/bin/bash
# tidy_file.sh UNTIL LATE FILE: runs clang-tidy on a file, or adds it to the file LATE if the time UNTIL (seconds since
# 1970) has come.
set -euo pipefail

if [[ $(date +%s) -ge $1 ]]; then
  echo "$3" >>"$2"
  exit 0
fi
exec clang-tidy --quiet -p . "$3"
