"""The Flink types of what travels inside the route job, field by field.

Fields are plain numbers, text and bytes: Flink carries them without pickling, and thread mode cannot carry
timestamps (FLINK-35180), so those are epoch milliseconds.
"""

from __future__ import annotations

from pyflink.common import Types

RAW_RECORD = Types.ROW_NAMED(
    ["key", "value", "partition", "offset", "at"],
    [
        Types.PRIMITIVE_ARRAY(Types.BYTE()),
        Types.PRIMITIVE_ARRAY(Types.BYTE()),
        Types.INT(),
        Types.LONG(),
        Types.LONG(),
    ],
)
"""One record as Kafka holds it. `at` is its append time."""

ROUTE_INPUT = Types.ROW_NAMED(
    ["service", "kind", "partition", "offset", "at", "body"],
    [
        Types.STRING(),
        Types.STRING(),
        Types.INT(),
        Types.LONG(),
        Types.LONG(),
        Types.PRIMITIVE_ARRAY(Types.BYTE()),
    ],
)
"""Something the route fold of `service` must fold. `kind` REGISTRATION: `body` is a record of the registry topic
(already known to decode) at that position. `kind` LEASES: `body` is a batch of lease transitions. `kind` WINDOW:
`body` is what its beats said in the window that ended `at`."""

REGISTRATION = "registration"
LEASES = "leases"
WINDOW = "window"

LEASE_EVENT = Types.ROW_NAMED(
    ["shard", "partition", "offset", "at", "value"],
    [Types.INT(), Types.INT(), Types.LONG(), Types.LONG(), Types.PRIMITIVE_ARRAY(Types.BYTE())],
)
"""A record of the registry topic that grants, changes or ends a lease of `shard`."""

SHARD_ROW = Types.PRIMITIVE_ARRAY(Types.BYTE())
"""One shard's row of one tick, or an operator's word to the gate, as `waypost.wire.transitions` encodes it."""

PARTIAL = Types.ROW_NAMED(["bucket", "end", "body"], [Types.INT(), Types.LONG(), Types.PRIMITIVE_ARRAY(Types.BYTE())])
"""One shard's part of the windows of a bucket of services that end with the tick that ends at `end`, as
`waypost.wire.health_window` encodes it."""

OUTPUT_RECORD = Types.ROW_NAMED(
    ["key", "value"], [Types.PRIMITIVE_ARRAY(Types.BYTE()), Types.PRIMITIVE_ARRAY(Types.BYTE())]
)
"""One record to write to Kafka."""

EXPLODED_BEAT = Types.ROW_NAMED(["shard", "at", "entry"], [Types.INT(), Types.LONG(), Types.STRING()])
"""Beats of one shard taken out of a node batch, or late ones, on their way back into SQL. `at` decides the tick."""
