#!/bin/bash
# Plays one scenario in its brief form.
set -euo pipefail
exec tests/scenarios/scenario --brief --server=tests/scenarios/probe_server "$1"
