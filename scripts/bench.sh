#!/usr/bin/env bash
# First figures on this machine: scripts/bench.sh [options of bench.quick]. See docs/bench.md.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
me=bench
# shellcheck source=scripts/lib.sh
source scripts/lib.sh

# The peers' packages contradict Flink's, so they have a venv of their own.
stamp="$(sha256sum bench/requirements.txt) $PWD"
if [ "$(cat .venv-bench/.stamp 2>/dev/null || true)" != "$stamp" ]; then
  say "installing the load generator and the peers into .venv-bench"
  rm -rf .venv-bench
  .venv/bin/python -m venv .venv-bench
  quietly .venv-bench/bin/python -m pip --disable-pip-version-check install --requirement bench/requirements.txt ||
    fail "pip failed (see above)"
  printf '%s\n' "$stamp" > .venv-bench/.stamp
fi
exec .venv/bin/python -m bench.quick --peers .venv-bench/bin/python "$@"
