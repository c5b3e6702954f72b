"""Call a service that may lose instances, or its registry: GET a path ten times, from whoever answers.

    python main.py etcd://127.0.0.1:2379 payments /

A dead instance costs a repeat and not a failed call; with the registry away, the table last known is used.
"""

from __future__ import annotations

import http.client
import sys

from waypost.client.balancers import RoundRobin
from waypost.client.discovery import DiscoveryManager
from waypost.client.failover import CallFailed
from waypost.client.registry.instance import Instance
from waypost.client.registry.opening import open_discoverer

CALLS = 10


def main(url: str, service: str, path: str) -> None:
    def get(instance: Instance) -> str:
        connection = http.client.HTTPConnection(instance.address, instance.port, timeout=2)
        try:
            connection.request("GET", path)
            return f"{connection.getresponse().status} from {instance.id}"
        finally:
            connection.close()

    with DiscoveryManager(open_discoverer(url), make_balancer=RoundRobin) as manager:
        for _ in range(CALLS):
            try:
                print(manager.call(service, get), flush=True)
            except CallFailed as error:
                print(error, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
