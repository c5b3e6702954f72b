"""A whole Waypost on one machine: real Kafka, Valkey and Flink, started, watched and stopped for you.

For a laptop, a demo and the tests. It does *not* replace an orchestrator: everything runs on one
machine as one user and listens on loopback only, without authentication.

`control` is what the command line calls. `supervisor` is the one process that owns the others;
`kafka`, `valkey` and `flink` say how each part is started and how one asks for its health;
`process` knows processes, `state` the files. `kubernetes` is a cluster of its own, for tests and demonstrations;
`waypost up` does not start it.
"""
