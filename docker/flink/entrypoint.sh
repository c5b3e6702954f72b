#!/usr/bin/env bash
# Start a part of Flink in the foreground:  jobmanager | taskmanager | any other command, e.g. `waypost run-job …`
# Configuration is written anew at each start, to a directory in /tmp: the root file system may be read-only.
set -euo pipefail

# Python inside the JVM would take the signals by which the JVM checks for null, and abort.
unset PYTHONFAULTHANDLER

mkdir -p "$FLINK_CONF_DIR" "$FLINK_LOG_DIR"
cp /opt/waypost/log4j-console.properties "$FLINK_CONF_DIR/"
cp /opt/waypost/log4j-console.properties "$FLINK_CONF_DIR/log4j-cli.properties"
waypost flink-settings --merge "$(cat /opt/waypost/flink.yaml; printf '\n%s\n' "${FLINK_PROPERTIES:-}")" \
  > "$FLINK_CONF_DIR/config.yaml"

case "${1:-}" in
  jobmanager) exec "$FLINK_HOME/bin/jobmanager.sh" start-foreground "${@:2}" ;;
  # A new id with each start: the JobManager lists a dead one until its heartbeat times out.
  taskmanager)
    exec "$FLINK_HOME/bin/taskmanager.sh" start-foreground -D "taskmanager.resource-id=$HOSTNAME-$(date +%s)" "${@:2}" ;;
  *) exec "$@" ;;
esac
