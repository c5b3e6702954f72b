"""The images under docker-compose.yml: the public ones where they can be pulled, stand-ins where not.

A stand-in is built here, from Debian's packages and what set-up fetched anyway, and keeps the part of its
original's contract that our files use; `test_stand_ins.py` holds both to it. Its name says what it is
(`waypost.invalid/stand-in/…`), so no test can mistake it for the real thing.

    WAYPOST_TEST_IMAGES   auto (default), public, or stand-in
    PYTHON_IMAGE, KAFKA_IMAGE, VALKEY_IMAGE   set by the caller: used as they are

By hand, from the repository's root (builds what is missing, prints the variables for compose):

    .venv/bin/python -m tests.compose.images
"""

from __future__ import annotations

import ast
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.compose.engine import REMEDY, ContainerError, Engine, Say, run, running_engine, say_on_stderr
from waypost.errors import StackError
from waypost.local.jars import cache_dir, kafka_jars
from waypost.local.valkey import server_binary

PUBLIC = {
    "PYTHON_IMAGE": "python:3.11-slim-bookworm",
    "KAFKA_IMAGE": "apache/kafka:4.2.0",
    "VALKEY_IMAGE": "valkey/valkey:9.1",
}
"""What Dockerfile and docker-compose.yml use when nobody says otherwise."""

STAND_IN = "waypost.invalid/stand-in"
"""`.invalid` can never be a registry (RFC 6761): nothing is pulled from it, nothing pushed to it by mistake."""
DEBIAN = f"{STAND_IN}/debian:bookworm"
STAMP = "waypost.stamp"
"""The label with the digest of everything an image was built from."""
ANSWER_SECONDS = 15.0
"""How long a registry may take to say whether it has an image. A refused name answers at once."""
BUILD_SECONDS = 1200.0

MODES = ("auto", "public", "stand-in")
# What pip needs to reach an index through the host's way; paths of the host would mean nothing inside.
PIP_SETTINGS = ("index-url", "extra-index-url", "trusted-host", "proxy", "default-timeout", "timeout", "retries")


def base_images(engine: Engine, say: Say, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the variables for compose, each with an image this engine has or can pull.

    Raises `ContainerError` when a public image is demanded and cannot be had, or a stand-in cannot be built.
    """
    mode = environ.get("WAYPOST_TEST_IMAGES") or "auto"
    if mode not in MODES:
        raise ContainerError(f"WAYPOST_TEST_IMAGES is {mode!r}; it can be {', '.join(MODES)}")
    chosen = {}
    for variable, public in PUBLIC.items():
        if environ.get(variable):
            chosen[variable] = environ[variable]
        elif mode == "stand-in":
            chosen[variable] = _stand_in(variable, engine, say)
        elif engine.has_image(public) or _can_be_pulled(public, engine.environ):
            chosen[variable] = public
        elif mode == "public":
            raise ContainerError(f"{public} cannot be pulled, and WAYPOST_TEST_IMAGES=public allows no stand-in")
        else:
            say(f"{public} cannot be pulled: a stand-in takes its place")
            chosen[variable] = _stand_in(variable, engine, say)
    return chosen


def _can_be_pulled(image: str, environ: Mapping[str, str]) -> bool:
    # Asks the registry for the list of contents only; needs no engine and fetches no layer.
    try:
        run(["docker", "manifest", "inspect", image], environ=environ, timeout=ANSWER_SECONDS)
    except ContainerError:
        return False
    return True


# --- stand-ins --------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Recipe:
    """A directory with a Dockerfile, the parent it starts from, and files that come from elsewhere."""

    name: str
    tag: str
    parent: tuple[str, str]
    """The build argument for the Dockerfile's FROM, and the image."""
    added: Mapping[str, Path] = field(default_factory=dict)
    """Name in the build context -> file or directory on this machine."""
    written: Mapping[str, str] = field(default_factory=dict)
    """Name in the build context -> text."""

    @property
    def directory(self) -> Path:
        return Path(__file__).parent / "stand_ins" / self.name


def _stand_in(variable: str, engine: Engine, say: Say) -> str:
    debian = _debian(engine, say)
    public_tag = PUBLIC[variable].rpartition(":")[2]
    try:
        if variable == "PYTHON_IMAGE":
            recipe = _Recipe(
                name="python",
                tag=f"{STAND_IN}/python:{public_tag}",
                parent=("DEBIAN", debian),
                written={"pip.conf": _pip_conf()},
            )
        elif variable == "KAFKA_IMAGE":
            recipe = _Recipe(
                name="kafka",
                tag=f"{STAND_IN}/kafka:{public_tag}",
                parent=("DEBIAN", debian),
                added={"jars": kafka_jars()},
            )
        else:
            recipe = _Recipe(
                name="valkey",
                tag=f"{STAND_IN}/valkey:{public_tag}",
                parent=("DEBIAN", debian),
                added={"valkey-server": server_binary()},
            )
    except StackError as error:
        raise ContainerError(f"the stand-in for {PUBLIC[variable]} cannot be built: {error}") from error
    return _built(recipe, engine, say)


def _debian(engine: Engine, say: Say) -> str:
    archives = sorted(cache_dir().glob("debian-bookworm-*.tar.gz"))
    if not archives:
        raise ContainerError(f"there is no Debian archive to build stand-ins from in {cache_dir()}; {REMEDY}")
    imported = f"{STAND_IN}/archive:{archives[-1].name.removesuffix('.tar.gz')}"
    if not engine.has_image(imported):
        say(f"importing {archives[-1].name}")
        engine.docker("import", "--change", 'CMD ["bash"]', str(archives[-1]), imported, timeout=BUILD_SECONDS)
    certificates = _host_certificates()
    return _built(_Recipe(name="debian", tag=DEBIAN, parent=("ARCHIVE", imported), written=certificates), engine, say)


def _host_certificates() -> dict[str, str]:
    """Return the certificates that only this host trusts, one file each; one empty directory when there are none."""
    local = Path("/usr/local/share/ca-certificates")
    found = {f"certificates/{path.stem}.crt": path.read_text() for path in sorted(local.rglob("*.crt"))}
    return {"certificates/.keep": "", **found}


def _pip_conf() -> str:
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout
    values: dict[str, str] = {}
    # Lines like global.index-url='…' and, stronger, :env:.index-url='…'.
    for line in sorted(listed.splitlines(), key=lambda line: line.startswith(":env:")):
        key, _, value = line.partition("=")
        name = key.rpartition(".")[2]
        if name in PIP_SETTINGS and value:
            values[name] = str(ast.literal_eval(value))
    return "[global]\n" + "".join(f"{name} = {value}\n" for name, value in sorted(values.items()))


def _built(recipe: _Recipe, engine: Engine, say: Say) -> str:
    stamp = _stamp(recipe, engine)
    label = engine.try_docker("image", "inspect", "--format", f'{{{{index .Config.Labels "{STAMP}"}}}}', recipe.tag)
    if label is not None and label.strip() == stamp:
        return recipe.tag
    began = time.monotonic()
    say(f"building {recipe.tag}")
    with tempfile.TemporaryDirectory(prefix="waypost-stand-in-") as scratch:
        context = Path(scratch) / "context"
        shutil.copytree(recipe.directory, context)
        for name, source in recipe.added.items():
            if source.is_dir():
                shutil.copytree(source, context / name)
            else:
                shutil.copy(source, context / name)
        for name, text in recipe.written.items():
            (context / name).parent.mkdir(parents=True, exist_ok=True)
            (context / name).write_text(text)
        argument, parent = recipe.parent
        # The host's network: a bridge may have no way out where only the host's resolver and proxy know one.
        command = ["docker", "build", "--network", "host", "--build-arg", f"{argument}={parent}"]
        command += ["--label", f"{STAMP}={stamp}", "--tag", recipe.tag, str(context)]
        run(command, environ=engine.environ, timeout=BUILD_SECONDS)
    say(f"built {recipe.tag} in {time.monotonic() - began:.0f} s")
    return recipe.tag


def _stamp(recipe: _Recipe, engine: Engine) -> str:
    digest = hashlib.sha256()
    digest.update(engine.docker("image", "inspect", "--format", "{{.Id}}", recipe.parent[1]).encode())
    for path in sorted(recipe.directory.iterdir()):
        digest.update(f"{path.name} {path.stat().st_mode & 0o111}\n".encode() + path.read_bytes())
    for name, source in sorted(recipe.added.items()):
        # The cache is made once per version: names and sizes tell its directories apart.
        files = sorted(source.iterdir()) if source.is_dir() else [source]
        digest.update("".join(f"{name} {path.name} {path.stat().st_size}\n" for path in files).encode())
    for name, text in sorted(recipe.written.items()):
        digest.update(f"{name}\n{text}".encode())
    return digest.hexdigest()


def main() -> int:
    try:
        with running_engine(say_on_stderr) as engine:
            for variable, image in base_images(engine, say_on_stderr).items():
                print(f"{variable}={image}")
    except ContainerError as error:
        say_on_stderr(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
