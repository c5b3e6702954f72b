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
    ["service", "kind", "body"], [Types.STRING(), Types.STRING(), Types.PRIMITIVE_ARRAY(Types.BYTE())]
)
"""Something the route fold of `service` must fold. `kind` REGISTRATIONS: `body` is a column of records of the registry
topic (`waypost.wire.glue`). `kind` LEASES: `body` is a batch of lease transitions. `kind` WINDOW: `body` is what beats
said in a window. `kind` DECIDED: `body` is the end of a tick, in digits: of every lapse until then the fold was told.
`kind` ISOLATIONS: `body` is a column of records of the isolation topic."""

REGISTRATIONS = "registrations"
LEASES = "leases"
WINDOW = "window"
DECIDED = "decided"
ISOLATIONS = "isolations"

NODE_WORD = Types.ROW_NAMED(["shard", "entry"], [Types.INT(), Types.STRING()])
"""A record of the isolation topic about a node (`waypost.wire.glue`), for the part `shard` of the node index."""

SHARD_INPUT = Types.ROW_NAMED(["shard", "end", "entries"], [Types.INT(), Types.LONG(), Types.STRING()])
"""What the lease fold of `shard` takes: a column (`waypost.wire.glue`) of the beats of the tick that ends at `end`,
NULL when nobody beat; or, with `end` 0, of records of the registry topic."""

SHARD_ROW = Types.PRIMITIVE_ARRAY(Types.BYTE())
"""One shard's row of one tick, as `waypost.wire.transitions` encodes it."""

PARTIAL = Types.ROW_NAMED(["bucket", "end", "body"], [Types.INT(), Types.LONG(), Types.PRIMITIVE_ARRAY(Types.BYTE())])
"""One shard's part of the windows of a bucket of services that end with the tick that ends at `end`, as
`waypost.wire.health_window` encodes it."""

OUTPUT_RECORD = Types.ROW_NAMED(
    ["key", "value"], [Types.PRIMITIVE_ARRAY(Types.BYTE()), Types.PRIMITIVE_ARRAY(Types.BYTE())]
)
"""One record to write to Kafka."""

EXPLODED_BEAT = Types.ROW_NAMED(["shard", "at", "entry"], [Types.INT(), Types.LONG(), Types.STRING()])
"""Beats of one shard taken out of a node batch, or late ones, on their way back into SQL. `at` decides the tick."""
