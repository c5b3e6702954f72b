"""The self-healing show from curtain to curtain: what `waypost demo self-healing` calls.

A real Kubernetes control plane with nodes played by kwok, beside Kafka, Valkey, Flink and both jobs. It has a directory
of its own and starts empty, so it disturbs no stack that runs here.
"""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

from waypost.client.routes import RouteReader
from waypost.demo import healing_acts as acts
from waypost.demo import report
from waypost.demo.healing_cluster import PodAgents, Shop
from waypost.demo.stack import Ground
from waypost.demo.stage import say
from waypost.local import control
from waypost.local.kubernetes import Kubernetes
from waypost.local.kubernetes_programs import etcd_program, kubernetes_program, kwok_program
from waypost.local.state import Stack, write_whole

FILE = "demo-self-healing.json"
ROOM = "self-healing"
"""The directory of the show inside the state directory."""
INTERRUPTED = 130

SERVICES = ("payments", "cart", "catalog", "search", "mail")
REPLICAS = 4
NODES = 4


def require_programs() -> None:
    """Raise StackError with what to do when a program of the control plane is not there."""
    etcd_program()
    kwok_program()
    for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl"):
        kubernetes_program(name)


def play(state_dir: Path) -> int:
    """Return the exit status: 0 when every expectation held, 1 when one did not, 130 when interrupted.

    Whatever happens, what was started here is stopped. Raises StackError when there can be no show. Call it on the
    main thread.
    """
    require_programs()
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    for sig in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(sig, lambda *_: sys.exit(INTERRUPTED))
    control.claim(state_dir)
    room = state_dir / ROOM
    control.stop(room / "stack", purge=True)
    shutil.rmtree(room / "kubernetes", ignore_errors=True)
    cluster = Kubernetes(room / "kubernetes", nodes=NODES)
    ground = Ground(state_dir=room / "stack")
    try:
        say(f"starting a Kubernetes control plane and {NODES} nodes")
        cluster.start()
        say(f"the cluster is up after {cluster.ready_after_s:.1f} s")
        return 0 if _show(state_dir, cluster, ground) else 1
    except KeyboardInterrupt:
        say("interrupted")
        return INTERRUPTED
    finally:
        for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(sig, signal.SIG_IGN)
        ground.clear()
        cluster.stop()


def _show(state_dir: Path, cluster: Kubernetes, ground: Ground) -> bool:
    with contextlib.ExitStack() as cleanup:
        api = cleanup.enter_context(cluster.api_client())
        shop = Shop(cluster, api, SERVICES, REPLICAS)
        ground.repairs = shop.open()
        say(f"{len(SERVICES)} Deployments with {REPLICAS} pods each are Ready")
        stack = ground.bring_up(lasting=False, gateway="none")
        agents = PodAgents.of(shop, stack.kafka_bootstrap)
        cleanup.callback(agents.stop)
        agents.start()
        reader = RouteReader(stack.redis_url)
        cleanup.callback(reader.close)
        scene = acts.Scene(cluster, shop, agents, reader, stack.kafka_bootstrap)
        began = time.monotonic()
        acts.opening(scene)
        acts.crash(scene)
        node, alerts = acts.node_failure(scene)
        acts.recovery(scene, node, alerts)
        scene.figures["seconds"] = round(time.monotonic() - began, 1)
        return _tell(state_dir, scene, stack)


def _tell(state_dir: Path, scene: acts.Scene, stack: Stack) -> bool:
    build = stack.job.build if stack.job else None
    document: dict[str, Any] = report.document(
        scene.figures, scene.expectations, build=build, script="self-healing", seed=0
    )
    path = state_dir / FILE
    write_whole(path, json.dumps(document, indent=2) + "\n")
    say()
    for line in report.table(scene.expectations):
        say(line)
    say()
    for line in report.verdict(scene.expectations, logs=state_dir / ROOM):
        say(line)
    say(f"written to {path}")
    return bool(document["held"])
