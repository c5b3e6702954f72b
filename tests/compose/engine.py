"""A container engine for the tests: the one that answers, else a private one for as long as it is needed.

The private engine is a `dockerd` with its own socket, bridge and data directory, so it neither sees nor
disturbs another engine's containers. Its images stay in Waypost's cache: a second run builds nothing. It
starts empty and ends empty, whatever a crashed test left in it; it is not a place to keep containers.

By hand, from the repository's root:

    .venv/bin/python -m tests.compose.engine docker ps     # any command, with DOCKER_HOST set for it
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from waypost.local.jars import cache_dir
from waypost.local.process import ProcessId, belonging_to, end, spawn

REMEDY = "run scripts/containers.sh"
START_SECONDS = 60.0
"""Until a private engine must answer; it takes one to three, more after a crash with many layers."""
SOCKET_PATH_LIMIT = 107
"""Linux: the longest name a unix socket can have, without the closing zero."""

Say = Callable[[str], None]


class ContainerError(Exception):
    """Something outside the test failed: the engine, a build, a compose command. The message says how to fix it."""


@dataclass(frozen=True, kw_only=True)
class Engine:
    """An engine that answered. `host` is its `DOCKER_HOST`; `environ` is for every command that shall use it."""

    host: str
    private: bool

    @property
    def environ(self) -> dict[str, str]:
        environ = {**os.environ, "DOCKER_HOST": self.host}
        environ.pop("DOCKER_CONTEXT", None)  # would contradict DOCKER_HOST
        if not has_buildx():
            # Newer clients prefer BuildKit and refuse without its plugin; older engines do not know it.
            environ["DOCKER_BUILDKIT"] = "0"
        return environ

    def docker(self, *arguments: str, timeout: float = 120.0) -> str:
        """Return what `docker ARGUMENTS` printed; raises `ContainerError` with the end of its output."""
        return run(["docker", *arguments], environ=self.environ, timeout=timeout)

    def has_image(self, image: str) -> bool:
        return self.try_docker("image", "inspect", "--format", "{{.Id}}", image) is not None

    def try_docker(self, *arguments: str, timeout: float = 120.0) -> str | None:
        """Return what it printed, None when it failed."""
        try:
            return self.docker(*arguments, timeout=timeout)
        except ContainerError:
            return None


def run(command: Sequence[str], *, environ: Mapping[str, str], timeout: float = 120.0, cwd: Path | None = None) -> str:
    """Return the command's standard output; raises `ContainerError` naming it, with the end of what it said."""
    try:
        done = subprocess.run(
            command, env=dict(environ), cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False
        )
    except FileNotFoundError as error:
        raise ContainerError(f"{command[0]} is not installed; {REMEDY}") from error
    except subprocess.TimeoutExpired as error:
        said = b"".join(part for part in (error.stdout, error.stderr) if isinstance(part, bytes)).decode(
            errors="replace"
        )
        raise ContainerError(f"`{' '.join(command)}` did not end within {timeout:.0f} s\n{tail(said)}") from error
    if done.returncode != 0:
        raise ContainerError(f"`{' '.join(command)}` ended with {done.returncode}\n{tail(done.stdout + done.stderr)}")
    return done.stdout


def tail(text: str, lines: int = 40) -> str:
    return "\n".join(text.rstrip().splitlines()[-lines:])


@functools.cache
def has_buildx() -> bool:
    done = subprocess.run(["docker", "buildx", "version"], capture_output=True, check=False)
    return done.returncode == 0


@contextlib.contextmanager
def running_engine(say: Say, cache: Path | None = None) -> Iterator[Engine]:
    """The engine that answers (`DOCKER_HOST`, the client's context), else a private one that ends with the block."""
    if shutil.which("docker") is None:
        raise ContainerError(f"there is no `docker` command; {REMEDY}")
    host = answering_host()
    if host is not None:
        yield Engine(host=host, private=False)
        return
    with _private_engine(say, cache or cache_dir()) as engine:
        yield engine


def answering_host() -> str | None:
    """Return the address of the engine that the `docker` command reaches, None when none answers."""
    if not _answers(os.environ):
        return None
    if os.environ.get("DOCKER_HOST"):
        return os.environ["DOCKER_HOST"]
    # docker-compose 1 knows no contexts, so the context's address is made explicit.
    inspected = ["docker", "context", "inspect", "--format", "{{.Endpoints.docker.Host}}"]
    return run(inspected, environ=os.environ).strip()


def _answers(environ: Mapping[str, str]) -> bool:
    command = ["docker", "version", "--format", "{{.Server.Version}}"]
    try:
        run(command, environ=environ, timeout=20)
    except ContainerError:
        return False
    return True


# --- the private engine -----------------------------------------------------------------------


@contextlib.contextmanager
def _private_engine(say: Say, cache: Path) -> Iterator[Engine]:
    dockerd = shutil.which("dockerd", path=_path_with_sbin())
    if dockerd is None:
        raise ContainerError(f"no container engine answers and dockerd is not installed; {REMEDY}, or set DOCKER_HOST")
    if os.geteuid() != 0:
        raise ContainerError(
            "no container engine answers, and only root can start one. Start Docker, or set DOCKER_HOST to an engine."
        )
    data = cache / "docker"
    data.mkdir(parents=True, exist_ok=True)
    with _alone(data, say):
        # Named after the data, so that the next run finds what a killed one left. Short: it holds unix sockets.
        short = hashlib.sha256(str(data.resolve()).encode()).hexdigest()[:8]
        runtime = Path("/run") / f"waypost-{short}"
        bridge = f"waypost-{short[:7]}"
        _sweep(runtime, bridge)
        runtime.mkdir(mode=0o700)
        try:
            with _bridge(bridge), _dockerd(dockerd, runtime, data, bridge) as engine:
                say(f"a private container engine is up ({engine.host})")
                _empty(engine)
                try:
                    yield engine
                finally:
                    _empty(engine)
        finally:
            _sweep(runtime, bridge)


@contextlib.contextmanager
def _alone(data: Path, say: Say) -> Iterator[None]:
    """Hold the data directory: two engines on one would destroy it. Waits for another run to end."""
    with data.with_name("docker.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            say(f"waiting for another run (process {lock.read().strip() or 'unknown'}) that uses the engine in {data}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


@contextlib.contextmanager
def _bridge(name: str) -> Iterator[None]:
    """A bridge of our own instead of `docker0`, which another engine on this machine may be using."""
    environ = {**os.environ, "PATH": _path_with_sbin()}
    run(["ip", "link", "add", "name", name, "type", "bridge"], environ=environ)
    try:
        yield
    finally:
        run(["ip", "link", "delete", name], environ=environ)


@contextlib.contextmanager
def _dockerd(dockerd: str, runtime: Path, data: Path, bridge: str) -> Iterator[Engine]:
    socket = runtime / "docker.sock"
    if len(str(socket)) > SOCKET_PATH_LIMIT:
        raise ContainerError(f"{socket} is too long for a unix socket")
    # The machine's own /etc/docker/daemon.json speaks about another engine.
    settings = runtime / "daemon.json"
    settings.write_text("{}\n")
    log = runtime / "dockerd.log"
    command = [dockerd, "--host", f"unix://{socket}", "--config-file", str(settings)]
    command += ["--data-root", str(data), "--exec-root", str(runtime / "exec"), "--pidfile", str(runtime / "pid")]
    # Left to itself dockerd takes a network that another bridge without containers has already, such as a killed run's,
    # and what containers publish is then sent there. The one it took first it remembers.
    (data / "network" / "files" / "local-kv.db").unlink(missing_ok=True)
    pool = f"base=10.{200 + int(runtime.name[-2:], 16) % 50}.0.0/16,size=24"
    command += ["--bridge", bridge, "--default-address-pool", pool, "--shutdown-timeout", "10"]
    # Asked to end when we die, even by kill -9: dockerd then takes its containers and containerd along.
    process = spawn(
        command, state_dir=runtime, log=log, environ={"PATH": _path_with_sbin()}, death_signal=signal.SIGTERM
    )
    identity = ProcessId.of(process.pid)
    engine = Engine(host=f"unix://{socket}", private=True)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not (socket.exists() and _answers(engine.environ)):
            if process.poll() is not None:
                raise ContainerError(f"dockerd ended with {process.returncode}; its last lines:\n{_log_tail(log)}")
            if time.monotonic() > deadline:
                raise ContainerError(
                    f"dockerd did not answer within {START_SECONDS:.0f} s; its last lines:\n{_log_tail(log)}"
                )
            time.sleep(0.1)
        yield engine
    finally:
        if identity is not None:
            end([identity], grace=30.0)
        process.wait()


def _log_tail(log: Path) -> str:
    try:
        return tail(log.read_text(errors="replace"), 20)
    except OSError:
        return "(it wrote none)"


def _empty(engine: Engine) -> None:
    """Remove every container, network and volume; images stay, but not those nothing has used for a week."""
    # Restarting ones come back between a list and a removal: hence --force, and networks after containers.
    containers = engine.docker("ps", "--all", "--quiet").split()
    if containers:
        engine.docker("rm", "--force", "--volumes", *containers)
    engine.docker("network", "prune", "--force")
    volumes = engine.docker("volume", "ls", "--quiet").split()
    if volumes:
        engine.docker("volume", "rm", "--force", *volumes)
    engine.docker("image", "prune", "--force", "--filter", "until=168h")


def _sweep(runtime: Path, bridge: str) -> None:
    """End what still runs for `runtime`, unmount what is mounted in it, and remove it and the bridge."""
    end(belonging_to(runtime), grace=15.0)
    for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
        mounted = line.split()[1]
        if mounted.startswith(f"{runtime}/"):
            subprocess.run(["umount", "--lazy", mounted], capture_output=True, check=False)
    if Path(f"/sys/class/net/{bridge}").exists():
        environ = {**os.environ, "PATH": _path_with_sbin()}
        run(["ip", "link", "delete", bridge], environ=environ)
    _forget_firewall_rules(bridge)
    shutil.rmtree(runtime, ignore_errors=True)


def _forget_firewall_rules(bridge: str) -> None:
    """Delete the rules that name the bridge: dockerd leaves them, and one would masquerade a later network."""
    environ = {**os.environ, "PATH": _path_with_sbin()}
    for table in ("filter", "nat"):
        for rule in run(["iptables", "-t", table, "-S"], environ=environ).splitlines():
            words = rule.split()
            if bridge in words and words[0] == "-A":
                run(["iptables", "-t", table, "-D", *words[1:]], environ=environ)


def _path_with_sbin() -> str:
    return os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])


def say_on_stderr(what: str) -> None:
    print(f"containers: {what}", file=sys.stderr, flush=True)


def main(arguments: Sequence[str]) -> int:
    try:
        with running_engine(say_on_stderr) as engine:
            return subprocess.run(arguments or ["docker", "info"], env=engine.environ, check=False).returncode
    except ContainerError as error:
        say_on_stderr(str(error))
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
