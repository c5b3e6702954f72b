"""The real job on a mini cluster, one run per process: `python -m tests.flink.run_job request.json`.

A process of its own, because in thread mode a JVM keeps the modules of its first job. The request is what
`tests.flink.mini_cluster` writes. A run without end takes `savepoint DIRECTORY` or `cancel` as a line on standard
input; what it has to say it prints as lines of JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from pyflink.datastream import StreamExecutionEnvironment
from pyflink.java_gateway import get_gateway
from pyflink.table import StreamTableEnvironment

import jobs.route_table as job
from jobs.submission import configuration
from sinks.kafka_records import KafkaRecords
from tests.flink.probes import COUNTED
from waypost.settings import Settings


def main(request: dict) -> None:  # type: ignore[type-arg]
    settings = Settings.load(overrides=request["settings"])
    for name, counted in COUNTED.items():
        setattr(job, name, counted)

    conf = configuration(settings)
    for name, value in request["flink"].items():
        conf.set_string(name, value)
    env = StreamExecutionEnvironment.get_execution_environment(conf)
    tables = StreamTableEnvironment.create(env)
    source = job.kafka_source(settings)
    job.build(tables, source, KafkaRecords(bootstrap=settings.kafka.bootstrap), settings)

    client = env.execute_async(job.NAME)
    say(started=str(client.get_job_id()))
    command, _, argument = sys.stdin.readline().strip().partition(" ")
    if command == "savepoint":
        # PyFlink 2.3's own method calls a Java method that no longer exists.
        form = get_gateway().jvm.org.apache.flink.core.execution.SavepointFormatType.CANONICAL
        say(savepoint=client._j_job_client.stopWithSavepoint(False, argument, form).get())
    else:
        client.cancel().result()
        say(cancelled=True)


def say(**what: object) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
