"""Exit with status 0 when the JobManager counts on this container's TaskManager (see entrypoint.sh for its id)."""

import json
import os
import socket
import sys
import urllib.request

url = os.environ.get("WAYPOST_FLINK_REST", "http://jobmanager:8081") + "/taskmanagers"
with urllib.request.urlopen(url, timeout=3) as answer:
    registered = [manager["id"] for manager in json.load(answer)["taskmanagers"]]
if not any(resource.startswith(f"{socket.gethostname()}-") for resource in registered):
    sys.exit(f"{socket.gethostname()} is not among the registered TaskManagers {registered}")
