"""The real repair job on a mini cluster, one run per process: `python -m tests.flink.run_repair_job request.json`.

It runs until its process is killed, which is what the tests are about, or `cancel` comes as a line on standard input.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from pyflink.datastream import StreamExecutionEnvironment
from pyflink.table import StreamTableEnvironment

from jobs import repair as job
from jobs.submission import configuration
from sinks.kafka_records import KafkaRecords
from sinks.kubernetes_repair import ConfigReader, KubernetesRepairSink
from waypost.settings import Settings


def main(request: dict) -> None:  # type: ignore[type-arg]
    settings = Settings.load(overrides=request["settings"])
    conf = configuration(settings)
    for name, value in request["flink"].items():
        conf.set_string(name, value)
    env = StreamExecutionEnvironment.get_execution_environment(conf)
    tables = StreamTableEnvironment.create(env)
    job.build(
        tables,
        job.kafka_source(settings),
        KafkaRecords(bootstrap=settings.kafka.bootstrap),
        settings,
        KubernetesRepairSink.of(settings),
        ConfigReader(settings.kafka.bootstrap, settings.topics.config),
    )
    client = env.execute_async(job.NAME)
    print(json.dumps({"started": str(client.get_job_id())}), flush=True)
    sys.stdin.readline()
    client.cancel().result()
    print(json.dumps({"cancelled": True}), flush=True)


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
