"""What SQL's HASH_CODE says of ids: `python -m tests.flink.hash_codes SHARDS < ids`, one JSON list per line."""

from __future__ import annotations

import json
import sys

from pyflink.table import DataTypes, EnvironmentSettings, TableEnvironment


def main(shards: int, ids: list[str]) -> None:
    tables = TableEnvironment.create(EnvironmentSettings.in_batch_mode())
    tables.get_config().set("parallelism.default", "1")
    given = tables.from_elements([(i,) for i in ids], DataTypes.ROW([DataTypes.FIELD("id", DataTypes.STRING())]))
    tables.create_temporary_view("ids", given)
    query = f"SELECT id, MOD(MOD(HASH_CODE(id), {shards}) + {shards}, {shards}) FROM ids"
    with tables.execute_sql(query).collect() as rows:
        print(json.dumps([[row[0], row[1]] for row in rows]))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.stdin.read().split("\n"))
