# Sourced by the scripts here: how they speak, and where the cache is. Set `me` before.
# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154  # shared with the script that sources this

SECONDS=0
say()  { printf '%s %3ds  %s\n' "$me" "$SECONDS" "$*"; }
quietly() {  # run; show the output only when it fails
  local log status=0
  log="$(mktemp)"
  "$@" >"$log" 2>&1 || status=$?
  if [ "$status" != 0 ]; then cat "$log" >&2; fi
  rm -f "$log"
  return "$status"
}
fail() { printf '%s: %s\n' "$me" "$*" >&2; exit 1; }

: "${HOME:=$(getent passwd "$(id -u)" | cut -d: -f6)}"
export HOME
cache="${WAYPOST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/waypost}"
