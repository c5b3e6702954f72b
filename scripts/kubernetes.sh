#!/usr/bin/env bash
# What the tests marked `kubernetes` need besides scripts/setup.sh: a real control plane, kubectl, and kwok for the nodes.
#
# Safe to run again at any time; when nothing is missing it ends within a second. etcd is installed by itself on Debian
# and Ubuntu (as root); elsewhere the missing package is named. The rest is built from Go modules, once per version:
# scripts/kubernetes/go.mod and scripts/kubernetes/kwok/go.mod say which. Go is not installed: bring it.
#   WAYPOST_CACHE    where the programs live (default: $XDG_CACHE_HOME/waypost or ~/.cache/waypost)
#   WAYPOST_GO_JOBS  how many packages are compiled at a time (default: one per core)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
me=kubernetes
# shellcheck source=scripts/lib.sh
source scripts/lib.sh
PATH="$PATH:/usr/local/go/bin:/usr/local/sbin:/usr/sbin:/sbin"

# --- etcd -------------------------------------------------------------------------------------

if ! command -v etcd >/dev/null; then
  install=(apt-get install -y --no-install-recommends etcd-server)
  command -v apt-get >/dev/null || fail "etcd is missing (Debian's name: etcd-server). Install it with this system's package manager, then run this again."
  [ "$(id -u)" = 0 ] || fail "etcd is missing. Run this, then this script again:
  sudo apt-get update && sudo ${install[*]}"
  say "installing system packages: etcd-server"
  export DEBIAN_FRONTEND=noninteractive
  quietly apt-get update || fail "apt-get update failed (see above)"
  # Whoever asked for tests did not ask for a service. (Under systemd it starts all the same.)
  RUNLEVEL=1 quietly "${install[@]}" || fail "apt-get install failed (see above)"
  command -v etcd >/dev/null || fail "still missing after apt-get: etcd"
fi
say "$(etcd --version | sed -n 's/^etcd Version: /etcd /p')"

# --- programs from Go modules -----------------------------------------------------------------

version_of() { sed -n "s:^\t$2 v\([^ ]*\).*:\1:p" "$1/go.mod"; }  # $1 = directory, $2 = module

complete() {  # $1 = directory, $2... = packages; are all their programs there?
  local directory="$1" package
  shift
  for package in "$@"; do [ -x "$directory/${package##*/}" ] || return 1; done
}

build() {  # $1 = directory of the go.mod, $2 = where the programs go, $3 = linker flags, $4... = packages
  local module="$1" made="$2" flags="$3" needed has scratch
  shift 3
  command -v go >/dev/null || fail "Go is missing, and it builds $(basename "$made"); see https://go.dev/dl/"
  needed="$(sed -n 's/^go //p' "$module/go.mod")"
  # Asked in that directory: a newer Go may be fetched by the one that is installed.
  has="$(cd "$module" && { go env GOVERSION 2>/dev/null || go version | cut -d' ' -f3; })"
  [ "$(printf '%s\n' "$needed" "${has#go}" | sort -V | head -1)" = "$needed" ] \
    || fail "$(basename "$made") needs Go $needed or newer to be built, this is ${has#go}; see https://go.dev/dl/"
  mkdir -p "$cache"
  scratch="$(mktemp -d "$cache/.kubernetes-XXXXXX")"
  if ! (cd "$module" && CGO_ENABLED=0 GOFLAGS='' quietly go build ${WAYPOST_GO_JOBS:+-p "$WAYPOST_GO_JOBS"} -mod=readonly \
         -trimpath -ldflags "-s -w $flags" -o "$scratch/made/" "$@"); then
    rm -rf "$scratch"
    fail "Go could not build $(basename "$made") (see above); is the module proxy reachable? (go env GOPROXY)"
  fi
  # The rename is the moment it exists, as with the jars.
  rm -rf "$made"
  mv -T "$scratch/made" "$made" || fail "cannot move the programs to $made"
  rm -rf "$scratch"
}

kubernetes="$(version_of scripts/kubernetes k8s.io/kubernetes)"
control_plane=(k8s.io/kubernetes/cmd/{kube-apiserver,kube-controller-manager,kube-scheduler,kubectl})
if ! complete "$cache/kubernetes-$kubernetes" "${control_plane[@]}"; then
  say "building Kubernetes $kubernetes from Go modules (ten minutes on two cores, once)"
  IFS=. read -r major minor _ <<<"$kubernetes"
  flags=()
  # As Kubernetes' own build does it; an unversioned server calls itself v0.0.0 and clients compare versions.
  for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    flags+=(-X "$package.gitVersion=v$kubernetes" -X "$package.gitMajor=$major" -X "$package.gitMinor=$minor")
  done
  build scripts/kubernetes "$cache/kubernetes-$kubernetes" "${flags[*]}" "${control_plane[@]}"
fi
say "kubernetes $kubernetes: $(basename -a "${control_plane[@]}" | paste -sd' ')"

kwok="$(version_of scripts/kubernetes/kwok sigs.k8s.io/kwok)"
if ! complete "$cache/kwok-$kwok" sigs.k8s.io/kwok/cmd/kwok; then
  say "building kwok $kwok from Go modules (two minutes on two cores, once)"
  build scripts/kubernetes/kwok "$cache/kwok-$kwok" "-X sigs.k8s.io/kwok/pkg/consts.Version=v$kwok" sigs.k8s.io/kwok/cmd/kwok
fi
say "kwok $kwok"
say "done"
