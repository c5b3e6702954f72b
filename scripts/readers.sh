#!/usr/bin/env bash
# What the tests of examples/readers need besides scripts/setup.sh: nginx with Lua, and Go with the reader's modules.
#
# Safe to run again at any time; when nothing is missing it ends within a second or two. nginx is installed by itself on
# Debian and Ubuntu (as root); elsewhere the missing packages are named. Go is not installed: bring 1.21 or newer.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
me=readers
# shellcheck source=scripts/lib.sh
source scripts/lib.sh
PATH="$PATH:/usr/local/go/bin:/usr/local/sbin:/usr/sbin:/sbin"

missing_packages() {
  command -v nginx >/dev/null || echo nginx-light
  [ -e /usr/lib/nginx/modules/ngx_http_lua_module.so ] || echo libnginx-mod-http-lua
  [ -e /usr/share/lua/5.1/resty/core.lua ] || echo lua-resty-core
  ls /usr/lib/*/lua/5.1/cjson.so >/dev/null 2>&1 || echo lua-cjson
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
  # Whoever asked for tests did not ask for a service. (Under systemd it starts all the same.)
  quietly apt-get update || fail "apt-get update failed (see above)"
  RUNLEVEL=1 quietly "${install[@]}" || fail "apt-get install failed (see above)"
  # shellcheck disable=SC2207
  missing=($(missing_packages))
  [ "${#missing[@]}" = 0 ] || fail "still missing after apt-get: ${missing[*]}"
fi
say "$(nginx -v 2>&1 | sed 's/.*: //') with Lua"

command -v go >/dev/null || fail "Go 1.21 or newer is missing; see https://go.dev/dl/"
(cd examples/readers/go && go mod download) || fail "Go could not fetch the reader's modules; is the module proxy reachable? (go env GOPROXY)"
say "$(go version | cut -d' ' -f3), modules of examples/readers/go"
