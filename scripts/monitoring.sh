#!/usr/bin/env bash
# What the tests of dashboards/ need besides scripts/setup.sh: a real Prometheus with promtool.
#
# Safe to run again at any time; when both are there it ends at once. Nothing is started: the tests run a Prometheus of
# their own. Only Debian's and Ubuntu's package is installed by itself (as root); elsewhere the missing one is named.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
me=monitoring
# shellcheck source=scripts/lib.sh
source scripts/lib.sh

has_both() { command -v prometheus >/dev/null && command -v promtool >/dev/null; }

if ! has_both; then
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null \
    || fail "prometheus and promtool are missing. Install them (Debian: sudo apt-get install --no-install-recommends prometheus), then run this again."
  say "installing system packages: prometheus"
  export DEBIAN_FRONTEND=noninteractive
  quietly apt-get update || fail "apt-get update failed (see above)"
  # Whoever asked for tests did not ask for a service. (Under systemd it starts all the same.)
  RUNLEVEL=1 quietly apt-get install -y --no-install-recommends prometheus || fail "apt-get install failed (see above)"
  has_both || fail "still missing after apt-get: prometheus, promtool"
fi
say "$(prometheus --version 2>&1 | sed -n '1s/ (.*//p')"
