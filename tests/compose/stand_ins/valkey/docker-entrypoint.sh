#!/bin/sh
# How the official valkey/valkey image starts, in our words; compared with docker-entrypoint.sh and the Dockerfiles of
# the valkey-container repository. Options or a *.conf file alone mean the server; root hands over to `valkey`, after
# making /data his; files are private unless somebody set a umask; VALKEY_EXTRA_FLAGS are appended.
set -eu

if [ $# -gt 0 ]; then
  case "$1" in -* | *.conf) set -- valkey-server "$@" ;; esac
fi

if [ "${1-}" = valkey-server ]; then
  if [ "$(id -u)" = 0 ]; then
    find . ! -user valkey -exec chown valkey {} +
    exec setpriv --reuid=valkey --regid=valkey --clear-groups -- "$0" "$@"
  fi

  # The official server is compiled with protected mode off: in a container, who may connect is decided by its
  # networks. Ours is a plain build, so it is told, unless somebody decided otherwise.
  decided=no
  for word in "$@"; do
    case "$word" in
      --protected-mode) decided=yes ;;
      *.conf) if grep -qsi '^[[:space:]]*protected-mode' "$word"; then decided=yes; fi ;;
    esac
  done
  if [ "$decided" = no ]; then set -- "$@" --protected-mode no; fi
fi

if [ "$(umask)" = 0022 ]; then umask 0077; fi

# shellcheck disable=SC2086  # several flags
exec "$@" ${VALKEY_EXTRA_FLAGS-}
