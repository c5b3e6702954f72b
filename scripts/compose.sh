#!/usr/bin/env bash
# docker-compose.yml with whichever compose there is:  scripts/compose.sh up | down | any compose command
# `up` builds, starts, and returns when everything is healthy; `down` deletes the volumes as well.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
me=compose
# shellcheck source=scripts/lib.sh
source scripts/lib.sh

patience=600  # seconds from the last image built to the last container healthy

docker version --format '{{.Server.Version}}' >/dev/null 2>&1 ||
  fail "no container engine answers; start Docker, or name one in DOCKER_HOST (\`docker version\` says more)"
if docker compose version >/dev/null 2>&1; then
  compose=(docker compose)
elif command -v docker-compose >/dev/null; then
  compose=(docker-compose)
else
  fail "neither \`docker compose\` nor \`docker-compose\` is installed (https://docs.docker.com/compose/install)"
fi
if ! docker buildx version >/dev/null 2>&1; then export DOCKER_BUILDKIT=0; fi

# Compose 1 has no --wait; this is the same for both.
not_yet() {  # the containers that are neither healthy nor done, with what they are
  # shellcheck disable=SC2046  # ids have no spaces
  docker inspect --format '{{.Name}} {{.State.Status}} {{with .State.Health}}{{.Status}}{{end}} {{.State.ExitCode}}' \
      $("${compose[@]}" ps --all --quiet 2>/dev/null || "${compose[@]}" ps --quiet) |
    awk '!($2 == "running" && $3 == "healthy") && !($2 == "exited" && $NF == 0) { sub("^/", ""); print }'
}

case "${1:-}" in
  up)
    say "building (minutes the first time)"
    "${compose[@]}" build "${@:2}"
    say "starting"
    "${compose[@]}" up --detach
    until [ -z "$(not_yet)" ]; do
      [ "$SECONDS" -lt "$patience" ] || { not_yet >&2; fail "these are not healthy after $patience s; see \`${compose[*]} logs\`"; }
      say "waiting for $(not_yet | cut -d' ' -f1 | paste -sd' ')"
      sleep 5
    done
    say "everything is healthy"
    ;;
  down) exec "${compose[@]}" down --volumes --remove-orphans ;;
  *) exec "${compose[@]}" "$@" ;;
esac
