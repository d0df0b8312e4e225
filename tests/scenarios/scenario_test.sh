#!/bin/bash
# Plays one scenario in its brief form.
set -euo pipefail
folder=tests/scenarios
exec $folder/scenario --brief --server=$folder/probe_server --clients=$folder/probe_clients "$1"
