from pathlib import Path

from waypost.local import jars
from waypost.local.java import java_home, major_version

ROOT = Path(__file__).resolve().parents[2]


def test_versions_are_those_of_the_pom() -> None:
    pom = (ROOT / "scripts" / "jars" / "pom.xml").read_text()

    assert f"<kafka.version>{jars.KAFKA_VERSION}</kafka.version>" in pom
    assert f"<flink.kafka.version>{jars.FLINK_KAFKA_VERSION}</flink.kafka.version>" in pom


def test_cache_follows_the_environment() -> None:
    assert jars.cache_dir({"WAYPOST_CACHE": "/a", "XDG_CACHE_HOME": "/b", "HOME": "/c"}) == Path("/a")
    assert jars.cache_dir({"XDG_CACHE_HOME": "/b", "HOME": "/c"}) == Path("/b/waypost")
    assert jars.cache_dir({"HOME": "/c"}) == Path("/c/.cache/waypost")


def a_java(home: Path, version: str) -> Path:
    (home / "bin").mkdir(parents=True)
    (home / "bin" / "java").touch()
    (home / "release").write_text(f'JAVA_VERSION="{version}"\n')
    return home


def test_java_17_is_found_beside_a_newer_default(tmp_path: Path) -> None:
    newer = a_java(tmp_path / "a", "25.0.1")
    wanted = a_java(tmp_path / "b", "17.0.15")

    assert major_version(newer) == 25
    assert java_home({"JAVA_HOME": str(newer)}, roots=[tmp_path]) == wanted
