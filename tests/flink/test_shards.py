"""SQL on the JVM and Python agree on whose shard an id is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from tests.flink.mini_cluster import ROOT
from waypost.local.java import java_home
from waypost.model.shards import shard_of

pytestmark = pytest.mark.flink

SIGNS = "ABCXYZabcxyz0189._:-"


@pytest.mark.parametrize("shards", [100])
def test_the_shard_of_an_id_is_the_same_in_sql_and_in_python(shards: int, tmp_path: Path) -> None:
    random = Random(7)
    ids = ["polygenelubricants", "00000000", "a", "10.1.2.3:8080", "[2001:db8::1]:80", "x" * 253]
    ids += ["".join(random.choices(SIGNS, k=random.randrange(1, 40))) for _ in range(3_000)]

    answer = subprocess.run(
        [sys.executable, "-m", "tests.flink.hash_codes", str(shards)],
        cwd=ROOT,
        env={**os.environ, "JAVA_HOME": str(java_home()), "JDK_JAVA_OPTIONS": f"-Djava.io.tmpdir={tmp_path}"},
        input="\n".join(ids),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert answer.returncode == 0, answer.stderr[-2000:]
    found = json.loads(answer.stdout.splitlines()[-1])
    assert [i for i, _ in found] == ids
    assert [shard for _, shard in found] == [shard_of(i, shards) for i in ids]
