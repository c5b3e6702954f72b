#!/usr/bin/env bash
# What the tests of docker-compose.yml need besides scripts/setup.sh: a container engine, compose in the wanted
# versions and, where public images cannot be pulled, a Debian to build stand-ins from.
#
# Safe to run again at any time; when nothing is missing it ends within a second. Nothing is started here: the
# tests use the engine that answers, or start a private one and end it. Only Debian's and Ubuntu's packages are
# installed by themselves (as root); elsewhere the missing ones are named.
#   WAYPOST_COMPOSE      which compose implementations are wanted (default: "v2 v1")
#   WAYPOST_TEST_IMAGES  auto, public or stand-in: which base images the tests will use (default: auto)
#   WAYPOST_CACHE        where it is all kept (default: $XDG_CACHE_HOME/waypost or ~/.cache/waypost)
#   DEBIAN_MIRROR        where the stand-ins' packages come from (default: this machine's own, then debootstrap's)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
me=containers
# shellcheck source=scripts/lib.sh
source scripts/lib.sh
PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin:/usr/local/go/bin"

wanted="${WAYPOST_COMPOSE:-v2 v1}"
images="${WAYPOST_TEST_IMAGES:-auto}"
for version in $wanted; do
  case "$version" in v1 | v2) ;; *) fail "WAYPOST_COMPOSE is '$wanted'; it lists v1, v2 or both" ;; esac
done
case "$images" in auto | public | stand-in) ;; *) fail "WAYPOST_TEST_IMAGES is '$images'; it can be auto, public or stand-in" ;; esac
wants() { case " $wanted " in *" $1 "*) ;; *) return 1 ;; esac }

# --- what is on the machine -------------------------------------------------------------------

engine_answers() { docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }
compose_v1() { [[ "$(docker-compose version --short 2>/dev/null)" == 1.* ]]; }
compose_v2_version() { sed -n 's:^.*github.com/docker/compose/v2 \(v[0-9.]*\).*:\1:p' scripts/compose/go.mod; }
compose_v2_binary="$cache/docker-compose-$(compose_v2_version)/docker-compose"
compose_v2() { docker compose version >/dev/null 2>&1 || [ -x "$compose_v2_binary" ]; }
# The number is the recipe's below: raise it when the archive must be made anew.
archive="$cache/debian-bookworm-1.tar.gz"
public_images() {
  # No engine is needed to ask the registry. One image stands for all: they come from the same place.
  timeout 15 docker manifest inspect "$(sed -n 's/^ARG PYTHON_IMAGE=//p' Dockerfile)" >/dev/null 2>&1
}
needs_archive() {
  [ ! -f "$archive" ] || return 1
  case "$images" in public) return 1 ;; stand-in) return 0 ;; *) ! public_images ;; esac
}

missing_packages() {
  if ! engine_answers; then
    command -v docker   >/dev/null && command -v dockerd >/dev/null || echo docker.io
    command -v iptables >/dev/null || echo iptables
    command -v ip       >/dev/null || echo iproute2
  fi
  if wants v1 && ! compose_v1; then echo docker-compose; fi
}

install() {  # $@ = packages
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    say "installing system packages: $*"
    export DEBIAN_FRONTEND=noninteractive
    quietly apt-get update || fail "apt-get update failed (see above)"
    # Whoever asked for tests did not ask for a service. (Under systemd it starts all the same, and is then used.)
    RUNLEVEL=1 quietly apt-get install -y --no-install-recommends "$@" || fail "apt-get install failed (see above)"
  elif command -v apt-get >/dev/null; then
    fail "missing: $*. Run this, then this script again:
  sudo apt-get update && sudo apt-get install -y --no-install-recommends $*"
  else
    fail "missing (Debian's names): $*. Install them with this system's package manager, then run this again."
  fi
}

# --- engine and compose v1 --------------------------------------------------------------------

# shellcheck disable=SC2207  # package names have no spaces
missing=($(missing_packages))
if [ "${#missing[@]}" -gt 0 ]; then
  install "${missing[@]}"
  # shellcheck disable=SC2207
  missing=($(missing_packages))
  case " ${missing[*]} " in
    *" docker-compose "*) fail "this system's docker-compose package is not version 1; test with WAYPOST_COMPOSE=v2" ;;
  esac
  [ "${#missing[@]}" = 0 ] || fail "still missing after apt-get: ${missing[*]}"
fi
if engine_answers; then
  say "engine: $(docker version --format '{{.Server.Version}}') answers"
elif [ "$(id -u)" = 0 ]; then
  say "engine: none answers, so the tests will start a private one ($(dockerd --version | cut -d, -f1))"
else
  fail "no container engine answers, and only root can start one. Start Docker, or set DOCKER_HOST to an engine. It said:
  $(docker version 2>&1 >/dev/null | tail -1)"
fi
if wants v1; then say "compose v1: $(docker-compose version --short)"; fi

# --- compose v2 -------------------------------------------------------------------------------

build_compose_v2() {
  local version needed has scratch
  version="$(compose_v2_version)"
  needed="$(sed -n 's/^go //p' scripts/compose/go.mod)"
  command -v go >/dev/null || fail "compose v2 is wanted, and there is neither its plugin (\`docker compose\`) nor a Go to build it.
  Install the plugin, or Go $needed or newer, or test without it: WAYPOST_COMPOSE=v1"
  # Asked in that directory: a newer Go may be fetched by the one that is installed.
  has="$(cd scripts/compose && { go env GOVERSION 2>/dev/null || go version | cut -d' ' -f3; })"
  [ "$(printf '%s\n' "$needed" "${has#go}" | sort -V | head -1)" = "$needed" ] \
    || fail "compose $version needs Go $needed or newer to be built, this is ${has#go}. Install that, or the \`docker compose\` plugin, or set WAYPOST_COMPOSE=v1"
  say "compose v2: building $version from Go modules (about three minutes on two cores, once)"
  mkdir -p "$cache"
  scratch="$(mktemp -d "$cache/.compose-XXXXXX")"
  if ! (cd scripts/compose && CGO_ENABLED=0 GOFLAGS='' quietly go build -mod=readonly -trimpath \
         -ldflags "-s -w -X github.com/docker/compose/v2/internal.Version=$version" \
         -o "$scratch/made/docker-compose" github.com/docker/compose/v2/cmd); then
    rm -rf "$scratch"
    fail "Go could not build compose $version (see above); is the module proxy reachable? (go env GOPROXY)"
  fi
  # The rename is the moment it exists, as with the jars.
  mv -T "$scratch/made" "$(dirname "$compose_v2_binary")" 2>/dev/null || [ -x "$compose_v2_binary" ] \
    || fail "cannot move it to $(dirname "$compose_v2_binary")"
  rm -rf "$scratch"
}

if wants v2; then
  compose_v2 || build_compose_v2
  if docker compose version >/dev/null 2>&1; then
    say "compose v2: $(docker compose version --short) (plugin)"
  else
    say "compose v2: $("$compose_v2_binary" version --short)"
  fi
fi

# --- a Debian for the stand-ins ---------------------------------------------------------------

debian_mirror() {  # the one this machine uses itself, if it is a Debian
  [ -z "${DEBIAN_MIRROR:-}" ] || { echo "$DEBIAN_MIRROR"; return; }
  command -v apt-get >/dev/null || return 0
  # shellcheck disable=SC2016  # apt's variables
  apt-get indextargets --format '$(REPO_URI) $(CODENAME) $(ORIGIN) $(LABEL)' 2>/dev/null \
    | awk '$2 == "bookworm" && $3 == "Debian" && $4 == "Debian" && !found { print $1; found = 1 }'
}

make_archive() {
  local scratch root mirror
  [ "$(id -u)" = 0 ] || fail "the public images cannot be pulled, and only root can make the Debian for stand-ins (debootstrap).
  Run this once as root with WAYPOST_CACHE=$cache, or make the images reachable and set WAYPOST_TEST_IMAGES=public"
  command -v debootstrap >/dev/null || install debootstrap debian-archive-keyring
  mirror="$(debian_mirror)"
  say "stand-ins: no public images here, making a Debian 12 with debootstrap (under a minute)"
  mkdir -p "$cache"
  scratch="$(mktemp -d "$cache/.debian-XXXXXX")"
  root="$scratch/root"
  # shellcheck disable=SC2086  # no mirror: debootstrap's default
  if ! quietly debootstrap --variant=minbase --include=ca-certificates bookworm "$root" ${mirror:-}; then
    rm -rf "$scratch"
    fail "debootstrap failed (see above); is the Debian mirror reachable? (DEBIAN_MIRROR)"
  fi
  mirror="$(awk '$1 == "deb" { print $2; exit }' "$root/etc/apt/sources.list")"
  {
    echo "deb $mirror bookworm main"
    echo "deb $mirror bookworm-updates main"
    echo "deb ${mirror%/}-security bookworm-security main"
  } > "$root/etc/apt/sources.list"
  # As slim images are: no package lists, no manuals, nothing of this machine.
  rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/* "$root"/var/log/* "$root"/usr/share/{doc,man,info,locale}/* \
         "$root"/etc/{hostname,resolv.conf} "$root"/debootstrap
  tar --numeric-owner --one-file-system -C "$root" -cf - . | gzip -1 > "$scratch/archive"
  mv "$scratch/archive" "$archive"
  rm -rf "$scratch"
}

if needs_archive; then make_archive; fi
if [ -f "$archive" ]; then say "stand-ins: $(basename "$archive") is in the cache"; else say "stand-ins: not needed"; fi
say "done"
