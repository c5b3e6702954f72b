#!/usr/bin/env bash
# What the tests of the registry client and of the contracts need besides scripts/setup.sh: etcd, NSD (a name server),
# Debian's Redis beside our Valkey, and Go with the modules of Kitex's registry-etcd.
#
# Safe to run again at any time; when nothing is missing it ends within a second or two. The servers are installed by
# themselves on Debian and Ubuntu (as root); elsewhere the missing packages are named. Go is not installed: bring 1.21 or
# newer.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
me=registries
# shellcheck source=scripts/lib.sh
source scripts/lib.sh
PATH="$PATH:/usr/local/go/bin:/usr/local/sbin:/usr/sbin:/sbin"

missing_packages() {
  command -v etcd >/dev/null || echo etcd-server
  command -v nsd >/dev/null || echo nsd
  command -v redis-server >/dev/null || echo redis-server
}

# shellcheck disable=SC2207  # package names have no spaces
missing=($(missing_packages))
if [ "${#missing[@]}" -gt 0 ]; then
  install=(apt-get install -y --no-install-recommends "${missing[@]}")
  command -v apt-get >/dev/null || fail "missing (Debian's names): ${missing[*]}. Install them with this system's package manager."
  [ "$(id -u)" = 0 ] || fail "missing: ${missing[*]}. Run this, then this script again:
  sudo apt-get update && sudo ${install[*]}"
  say "installing system packages: ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  # Whoever asked for tests did not ask for services. (Under systemd they start all the same.)
  quietly apt-get update || fail "apt-get update failed (see above)"
  RUNLEVEL=1 quietly "${install[@]}" || fail "apt-get install failed (see above)"
  # shellcheck disable=SC2207
  missing=($(missing_packages))
  [ "${#missing[@]}" = 0 ] || fail "still missing after apt-get: ${missing[*]}"
fi
say "etcd $(etcd --version | sed -n 's/etcd Version: //p'), $(nsd -v 2>&1 | head -1), Redis $(redis-server --version | sed -n 's/.* v=\([^ ]*\).*/\1/p')"

command -v go >/dev/null || fail "Go 1.21 or newer is missing; see https://go.dev/dl/"
(cd tests/client/kitex && go mod download) || fail "Go could not fetch Kitex's modules; is the module proxy reachable? (go env GOPROXY)"
say "$(go version | cut -d' ' -f3), modules of tests/client/kitex"
