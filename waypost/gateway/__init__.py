"""What real gateways are fed with: Traefik by its HTTP or its Redis provider, Envoy by xDS over REST.

`pool` says whom a gateway may call, `rules` by which host or path a service is reached; `traefik`, `traefik_keys` and
`envoy` write both down in the words of those programs. All of that is pure. `feed` follows the route tables and keeps
the last known good ones, `application` answers gateways over HTTP, `projection` writes Traefik's keys into a Redis,
`serve` is the process.

No truth is held here and no route is decided: what is in the tables is served, and nothing else.
"""
