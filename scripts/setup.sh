#!/usr/bin/env bash
# Everything Waypost needs on one machine: system packages, .venv, the Kafka and connector jars.
#
# Safe to run again at any time; when nothing changed it ends within a second. Only Debian's and
# Ubuntu's packages are installed by themselves (as root); elsewhere the missing ones are named.
#   WAYPOST_CACHE   where the jars live (default: $XDG_CACHE_HOME/waypost or ~/.cache/waypost)
#   PYTHON          the interpreter for .venv (default: the system's python3.11, then python3 3.10-3.12)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
me=setup
# shellcheck source=scripts/lib.sh
source scripts/lib.sh
stamp_file=".venv/.waypost-setup"

# --- what is on the machine -------------------------------------------------------------------

# PyFlink 2.3 with its pinned dependencies has wheels for these; the system's own comes first because
# thread mode loads libpython into the JVM and version managers often build Python without it.
find_python() {
  local candidate
  for candidate in "${PYTHON:-}" /usr/bin/python3.11 /usr/local/bin/python3.11 /usr/bin/python3; do
    [ -n "$candidate" ] && [ -x "$candidate" ] || continue
    if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; then
      echo "$candidate"; return 0
    fi
  done
  return 1
}

has_libpython() {  # $1 = interpreter
  "$1" - <<'PY'
import ctypes, sys
try:
    ctypes.CDLL("libpython%d.%d.so.1.0" % sys.version_info[:2])
except OSError:
    sys.exit(1)
PY
}

java_home_17() {
  local home
  for home in "${JAVA_HOME:-}" /usr/lib/jvm/* "$(dirname "$(dirname "$(readlink -f "$(command -v java || echo /nonexistent/bin/java)")")")"; do
    [ -n "$home" ] && [ -x "$home/bin/java" ] && [ -r "$home/release" ] || continue
    if grep -q '^JAVA_VERSION="17[."]' "$home/release"; then echo "$home"; return 0; fi
  done
  return 1
}

missing_packages() {
  local python
  if python="$(find_python)"; then
    has_libpython "$python" || "$python" -c 'import sys; print("libpython%d.%d" % sys.version_info[:2])'
  else
    echo python3.11 python3.11-venv libpython3.11
  fi
  java_home_17 >/dev/null || echo openjdk-17-jre-headless
  command -v mvn  >/dev/null || echo maven
  command -v git  >/dev/null || echo git
  command -v make >/dev/null || echo make
}

# --- the quick way out ------------------------------------------------------------------------

version_of() { sed -n "s:.*<$1>\(.*\)</$1>.*:\1:p" scripts/jars/pom.xml; }
kafka_dir="$cache/kafka-$(version_of kafka.version)"
flink_dir="$cache/flink-connector-kafka-$(version_of flink.kafka.version)"
stamp="$(cat requirements.lock pyproject.toml scripts/setup.sh scripts/jars/pom.xml | sha256sum | cut -d' ' -f1) $PWD"

if [ "$(cat "$stamp_file" 2>/dev/null || true)" = "$stamp" ] \
   && [ -x .venv/bin/waypost ] && .venv/bin/python -c '' 2>/dev/null \
   && [ -d "$kafka_dir" ] && [ -d "$flink_dir" ] && java_home_17 >/dev/null; then
  say "up to date"
  exit 0
fi

# --- system packages --------------------------------------------------------------------------

# shellcheck disable=SC2207  # package names have no spaces
missing=($(missing_packages))
if [ "${#missing[@]}" -gt 0 ]; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    say "installing system packages: ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    quietly apt-get update || fail "apt-get update failed (see above)"
    quietly apt-get install -y --no-install-recommends "${missing[@]}" || fail "apt-get install failed (see above)"
    # shellcheck disable=SC2207
    missing=($(missing_packages))
    [ "${#missing[@]}" = 0 ] || fail "still missing after apt-get: ${missing[*]}"
  elif command -v apt-get >/dev/null; then
    fail "missing system packages. Run this, then set up again:
  sudo apt-get update && sudo apt-get install -y --no-install-recommends ${missing[*]}"
  else
    fail "missing (Debian's names): ${missing[*]}. Install them with this system's package manager, then set up again."
  fi
fi
python="$(find_python)"
JAVA_HOME="$(java_home_17)"
export JAVA_HOME
say "system: $("$python" --version), Java 17, $(mvn --version 2>/dev/null | sed -n '1s/.*\(Apache Maven [0-9.]*\).*/\1/p')"

# --- .venv ------------------------------------------------------------------------------------

if ! .venv/bin/python -c '' 2>/dev/null; then
  say "making .venv"
  rm -rf .venv
  "$python" -m venv .venv
fi
rm -f "$stamp_file"
pip=(.venv/bin/python -m pip --disable-pip-version-check --no-input)
pinned() { sed -n "s/^\($1==[^ ;]*\).*/\1/p" requirements.lock; }
say "Python packages: $(grep -c '==' requirements.lock) pinned (PyFlink is ~300 MB: minutes the first time)"
quietly "${pip[@]}" install "$(pinned pip)" "$(pinned setuptools)" || fail "pip failed (see above)"
# Three small old dependencies of apache-beam have no wheel. No isolation: they are built with the
# pinned setuptools, so an upstream release of a build tool cannot break our set-up.
quietly "${pip[@]}" install --no-deps --no-build-isolation -r requirements.lock || fail "pip failed (see above)"
quietly "${pip[@]}" install --no-deps --no-build-isolation -e . || fail "pip failed (see above)"
quietly "${pip[@]}" check || fail "requirements.lock contradicts itself (see above); run scripts/lock.sh"
say "Python packages done"

# --- jars -------------------------------------------------------------------------------------

fetch_jars() {  # $1 = profile in the pom, $2 = final directory
  if [ -d "$2" ]; then say "jars: $(basename "$2") is in the cache"; return; fi
  say "jars: fetching $(basename "$2") from Maven Central"
  local scratch
  mkdir -p "$cache"
  scratch="$(mktemp -d "$cache/.fetch-XXXXXX")"
  if ! quietly mvn --batch-mode --no-transfer-progress -Dstyle.color=never -f scripts/jars/pom.xml -P "$1" dependency:copy-dependencies \
       -DincludeScope=runtime -DoutputDirectory="$scratch/jars"; then
    rm -rf "$scratch"
    fail "Maven could not fetch the $1 jars (see above); is Maven Central or its mirror reachable? (~/.m2/settings.xml)"
  fi
  # The rename is the moment it exists: an interrupted fetch leaves no half-filled directory behind.
  mv -T "$scratch/jars" "$2" 2>/dev/null || [ -d "$2" ] || fail "cannot move the jars to $2"
  rm -rf "$scratch"
  say "jars: $(find "$2" -name '*.jar' | wc -l) in $(basename "$2")"
}
fetch_jars kafka "$kafka_dir"
fetch_jars flink "$flink_dir"

printf '%s\n' "$stamp" > "$stamp_file"
say "done"
