"""Be found: register one instance, stay registered until interrupted, then leave.

    python main.py etcd://127.0.0.1:2379 payments 10.1.2.3:8080

Kill it with SIGKILL and its lease ends it; stop etcd for a while and it is registered again by itself.
"""

from __future__ import annotations

import signal
import sys
import threading

from waypost.client.registry.instance import Instance
from waypost.client.registry.opening import open_registry


def main(url: str, service: str, endpoint: str) -> None:
    told = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: told.set())
    address, _, port = endpoint.rpartition(":")
    with open_registry(url) as registry:
        registry.register(Instance(id=endpoint, name=service, address=address, port=int(port)))
        print(f"registered {service} at {endpoint}", flush=True)
        told.wait()
        registry.deregister(service, endpoint)
        print("deregistered", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
