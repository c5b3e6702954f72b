"""Follow one route table with redis-py and nothing else: `python reader.py redis://127.0.0.1:6379/0 default/payments`.

Prints the table as a JSON line whenever it, or whether it is stale, changes. The stream only wakes us up; what counts
is the table itself, read whole and in one MULTI, at each change and at least once a second. So nothing is missed when
the stream was trimmed, and there is no delta to apply.
"""

import json
import sys
import time

import redis


def read(client, service):
    """Read route, meta and the store's generation at one moment."""
    pipeline = client.pipeline(transaction=True)
    pipeline.get("waypost:v1:generation")
    pipeline.hgetall(f"waypost:v1:{{{service}}}:route")
    pipeline.hmget(f"waypost:v1:{{{service}}}:meta", "revision", "endpoints")
    generation, route, (revision, endpoints) = pipeline.execute()
    return generation, {name: json.loads(text) for name, text in route.items()}, int(revision or 0), int(endpoints or 0)


def may_replace(known, generation, route, revision, endpoints):
    """Tell whether what was read is to be believed: docs/redis.md, rules 6 and 7."""
    if revision == 0:  # no such service: never was, was removed, or the store lost it
        return known["revision"] == 0 or (generation is not None and generation == known["generation"])
    return revision >= known["revision"] and not (endpoints and not route)


def follow(client, service):
    """Yield (table, is it stale) whenever one of them changes, for ever."""
    known = {"generation": None, "revision": 0, "route": {}}
    position, shown = "$", None
    while True:
        stale = True
        try:
            generation, route, revision, endpoints = read(client, service)
            if may_replace(known, generation, route, revision, endpoints):
                known = {"generation": generation, "revision": max(revision, known["revision"]), "route": route}
                stale = False
        except (redis.RedisError, ValueError):  # away, or not JSON: go on with what we have
            time.sleep(0.5)
        if (known["route"], stale) != shown:
            shown = (known["route"], stale)
            yield shown
        try:
            for _, entries in client.xread({"waypost:v1:changes": position}, block=1000):
                position = entries[-1][0]
        except redis.RedisError:
            time.sleep(0.5)


if __name__ == "__main__":
    url, service = sys.argv[1:]
    # Longer than the longest wait inside Redis, or every quiet second would look like a dead server.
    client = redis.Redis.from_url(url, decode_responses=True, socket_timeout=2, socket_connect_timeout=2)
    for route, stale in follow(client, service):
        endpoints = {name: f"{e['address']}:{e['port']}" for name, e in sorted(route.items())}
        print(json.dumps({"endpoints": endpoints, "stale": stale}), flush=True)
