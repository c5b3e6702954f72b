"""One interface to many registries: Waypost's own, etcd, DNS, Kubernetes, environment variables, a file,
and a fake for tests.

`interface` says what every back end does, `opening` makes one from a URL, `aio` is the face for asyncio.
"""
