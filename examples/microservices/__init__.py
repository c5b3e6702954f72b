"""Two small services that find each other through Waypost: a provider, and a consumer that calls it with failover.

    python -m microservices.provider        python -m microservices.consumer

`environment` reads how to run, `application` is what both speak over HTTP, `addresses` says where they can be called,
`serving` is their life from the first request to the deregistration. `known_routes` and `failover` are the consumer's
way to a provider.
"""

VERSION = "v1.0.0"
