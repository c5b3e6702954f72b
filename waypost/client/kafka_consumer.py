"""A consumer of kafka-python's, or nothing: its constructor starts a thread with connections before it knows a broker.

When it raises, nobody has the object that could be closed, and the thread tries to connect for ever. Whoever comes
again while Kafka is away would have one more of them each time.
"""

from __future__ import annotations

from typing import Any


def kafka_consumer(**settings: Any) -> Any:
    """Return a consumer, with the constructor's arguments. Raises what it raises, and leaves no thread behind."""
    from kafka import KafkaConsumer  # a third of a second; `waypost --help` should not pay it

    consumer = KafkaConsumer.__new__(KafkaConsumer)
    try:
        consumer.__init__(**settings)
    except BaseException:
        begun = getattr(consumer, "_client", None)
        if begun is not None:
            begun.close()
        raise
    return consumer
