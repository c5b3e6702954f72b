#!/usr/bin/env bash
# What the tests of dashboards/ and the bridge need besides scripts/setup.sh: a real Prometheus with promtool, and a real
# Alertmanager.
#
# Safe to run again at any time; when all are there it ends at once. Nothing is started: the tests run servers of
# their own. Only Debian's and Ubuntu's packages are installed by themselves (as root); elsewhere the missing ones are
# named.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
me=monitoring
# shellcheck source=scripts/lib.sh
source scripts/lib.sh

has_alertmanager() { command -v alertmanager >/dev/null || command -v prometheus-alertmanager >/dev/null; }
has_all() { command -v prometheus >/dev/null && command -v promtool >/dev/null && has_alertmanager; }

if ! has_all; then
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null \
    || fail "prometheus, promtool or alertmanager is missing. Install them (Debian: sudo apt-get install --no-install-recommends prometheus prometheus-alertmanager), then run this again."
  say "installing system packages: prometheus, prometheus-alertmanager"
  export DEBIAN_FRONTEND=noninteractive
  quietly apt-get update || fail "apt-get update failed (see above)"
  # Whoever asked for tests did not ask for a service. (Under systemd it starts all the same.)
  RUNLEVEL=1 quietly apt-get install -y --no-install-recommends prometheus prometheus-alertmanager || fail "apt-get install failed (see above)"
  has_all || fail "still missing after apt-get: prometheus, promtool or alertmanager"
fi
say "$(prometheus --version 2>&1 | sed -n '1s/ (.*//p')"
