"""What keeps other systems equal to the Kubernetes API.

`waypost controller`: what a `KafkaServiceDiscovery` asks for, made so and kept so.

discovery   what the object says, checked          objects   what there has to be because of it
drift       what to do about one object            conditions   what to tell of it all
reconcile   one pass: observe, decide, act, tell   topics, counts, cluster   Kafka, Redis and the API server
handlers    when a pass is due (kopf)              leadership   which of several controllers does it (a Lease)

`waypost config-sync`: ConfigMaps, as configurations on `service-config`.
"""
