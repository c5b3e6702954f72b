"""Find others, once: the instances of a service that want requests.

python main.py env: redis
python main.py file:services.yaml payments
"""

from __future__ import annotations

import sys

from waypost.client.registry.opening import open_discoverer
from waypost.errors import UnknownService


def main(url: str, service: str) -> None:
    with open_discoverer(url) as discoverer:
        try:
            for instance in discoverer.discover(service):
                print(instance.id, instance.address, instance.port, instance.weight)
        except UnknownService as error:
            sys.exit(str(error))


if __name__ == "__main__":
    main(*sys.argv[1:])
