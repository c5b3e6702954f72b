"""A whole Kubernetes on this machine: etcd, the real control plane, and as many nodes as wanted, played by kwok.

For tests and demonstrations. What talks to the API server cannot tell it from any other: RBAC, evictions with their
budgets, EndpointSlices, node failures, service accounts are the real thing. What runs *in* pods is not there.

    with Kubernetes(state_dir, nodes=3) as cluster:
        cluster.kubectl("get", "nodes")
        client.CoreV1Api(cluster.api_client()).list_node()

It starts empty every time. Its processes end with it, and with the process that made it, however that ends.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol

from kubernetes import client, config

from waypost.errors import StackError
from waypost.local import kubernetes_nodes
from waypost.local.certificates import Certificates
from waypost.local.control_plane import NODE_MONITOR_GRACE_S, USERS, ApiServer, ControllerManager, Scheduler
from waypost.local.etcd import Etcd
from waypost.local.kubeconfig import ApiAddress, write_kubeconfig
from waypost.local.kubernetes_programs import kubernetes_program
from waypost.local.kwok import Kwok
from waypost.local.ports import free_ports
from waypost.local.process import ProcessId, belonging_to, end, spawn

PATIENCE_S = 120.0
"""For a start; on an idle machine it takes seconds."""
STOP_GRACE_S = 3.0
_LOOK_S = 0.05


class Server(Protocol):
    """One server of the cluster."""

    def command(self) -> list[str]:
        """Return how it is started. Raises StackError when the program is missing."""

    def is_healthy(self) -> bool:
        """Return whether it serves."""


class Kubernetes:
    """One cluster in a directory of its own. Start it from the main thread: its processes end with that thread.

    `nodes` are created at the start, named `node-1`, `node-2`, …; `add_nodes` makes more at any time.
    `node_monitor_grace_s` is how long a node without a kubelet stays Ready.
    """

    def __init__(
        self, state_dir: Path | str, *, nodes: int = 3, node_monitor_grace_s: int = NODE_MONITOR_GRACE_S
    ) -> None:
        self.state_dir = Path(state_dir).resolve()
        self.ready_after_s: float | None = None
        """How long the start took until all nodes were Ready; None before."""
        self._initial_nodes = [f"node-{n}" for n in range(1, nodes + 1)]
        self._node_monitor_grace_s = node_monitor_grace_s
        self._address: ApiAddress  # from `start` on
        self._servers: dict[str, Server] = {}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    # --- life ---------------------------------------------------------------------------------

    def __enter__(self) -> Kubernetes:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start an empty cluster and return when its nodes are Ready and pods can be made.

        Raises StackError when a program is missing, a server ends, or it takes more than `PATIENCE_S`; then nothing
        is left running.
        """
        if belonging_to(self.state_dir):
            raise StackError(f"a cluster runs in {self.state_dir} already")
        began = time.monotonic()
        try:
            self._servers = self._prepare()
            first, second, *others = self._servers
            for batch in ([first], [second], others):
                for name in batch:
                    self.start_server(name)
                for name in batch:
                    self.wait_until(self._servers[name].is_healthy, f"{name} serves")
            self.add_nodes(self._initial_nodes)
            # Without it the API server refuses pods.
            self.wait_until(self._has_default_account, "the default service account exists")
        except BaseException:
            self.stop()
            raise
        self.ready_after_s = time.monotonic() - began

    def stop(self) -> None:
        """End all processes. A cluster that does not run is no error; its files stay, for whoever reads the logs."""
        # The servers that write go before the one they write to.
        for name in reversed(self._servers):
            self.stop_server(name)
        end(belonging_to(self.state_dir), grace=STOP_GRACE_S)

    def start_server(self, name: str) -> None:
        """Start one of `servers` (again); return at once. Raises StackError when it runs or is unknown."""
        server = self._server(name)
        if name in self._processes:
            raise StackError(f"{name} runs already")
        self._processes[name] = spawn(server.command(), state_dir=self.state_dir, log=self._log(name))

    def stop_server(self, name: str) -> None:
        """End one of `servers`, for an outage; return when it is gone. etcd's data stays. A stopped one is no error."""
        self._server(name)
        if (process := self._processes.pop(name, None)) is None:
            return
        if (identity := ProcessId.of(process.pid)) is not None:
            end([identity], grace=STOP_GRACE_S)
        process.wait()

    def serves(self, name: str) -> bool:
        """Return whether one of `servers` says that it is ready."""
        return self._server(name).is_healthy()

    @property
    def servers(self) -> Sequence[str]:
        """The servers' names in the order of their start; empty before `start`."""
        return tuple(self._servers)

    # --- ways in ------------------------------------------------------------------------------

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig, mode 0600."""
        return self._kubeconfig_of("admin")

    def api_client(self, kubeconfig: Path | None = None) -> client.ApiClient:
        """Return a client of the administrator, or of another kubeconfig; the caller closes it (`with`)."""
        settings = client.Configuration()
        file = str(kubeconfig or self.kubeconfig)
        config.load_kube_config(config_file=file, client_configuration=settings)  # type: ignore[no-untyped-call]
        # No proxy of the environment: it is this machine.
        settings.proxy = None
        return client.ApiClient(settings)

    def kubectl(self, *arguments: str, kubeconfig: Path | None = None, stdin: str | None = None) -> str:
        """Run kubectl as the administrator, or with another kubeconfig; return what it printed.

        Raises StackError with its complaint when it fails.
        """
        command = [
            str(kubernetes_program("kubectl")),
            f"--kubeconfig={kubeconfig or self.kubeconfig}",
            f"--cache-dir={self.state_dir / 'kubectl-cache'}",
            *arguments,
        ]
        done = subprocess.run(command, input=stdin or "", capture_output=True, text=True, timeout=300, check=False)
        if done.returncode != 0:
            raise StackError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()[-1000:]}")
        return done.stdout

    def service_account_kubeconfig(self, namespace: str, name: str, *, valid_s: int = 86_400) -> Path:
        """Return a new kubeconfig (mode 0600) with a token of an existing service account, by TokenRequest.

        The API server allows no less than 600 s. Raises `kubernetes.client.ApiException` when there is no such account.
        """
        request = client.AuthenticationV1TokenRequest(
            spec=client.V1TokenRequestSpec(audiences=[], expiration_seconds=valid_s)
        )
        with self.api_client() as api:
            answer = client.CoreV1Api(api).create_namespaced_service_account_token(name, namespace, request)
        user = f"system:serviceaccount:{namespace}:{name}"
        path = self._kubeconfig_of(f"{namespace}.{name}")
        token = answer.status.token if answer.status else None
        if not token:
            raise StackError(f"the API server answered the token request of {user} without a token")
        write_kubeconfig(path, self._address, user=user, token=token, namespace=namespace)
        return path

    # --- nodes --------------------------------------------------------------------------------

    def add_nodes(self, names: Sequence[str], *, labels: Mapping[str, str] | None = None) -> None:
        """Create nodes with these labels and return when all are Ready."""
        with self.api_client() as api:
            core = client.CoreV1Api(api)
            for name in names:
                kubernetes_nodes.create(core, name, labels or {})
            self.wait_until(lambda: set(names) <= kubernetes_nodes.ready(core), f"{', '.join(names)} are Ready")

    def fail_node(self, name: str) -> None:
        """Let a node's kubelet die: no more leases, nothing starts or stops there. Return at once.

        The control plane notices after `node_monitor_grace_s`: Ready becomes Unknown, its pods are not ready.
        """
        with self.api_client() as api:
            kubernetes_nodes.take_kubelet_away(client.CoreV1Api(api), name)

    def recover_node(self, name: str) -> None:
        """Give a failed node its kubelet back; return at once. It and the pods that are still there become Ready."""
        with self.api_client() as api:
            kubernetes_nodes.give_kubelet_back(client.CoreV1Api(api), name)

    def wait_until(self, condition: Callable[[], bool], what: str, *, patience_s: float = PATIENCE_S) -> None:
        """Return when `condition` holds; what it raises passes through.

        Raises StackError when time runs out, saying `what` was waited for, and as soon as a server has ended by itself.
        """
        deadline = time.monotonic() + patience_s
        while not condition():
            for name, process in self._processes.items():
                if (status := process.poll()) is not None:
                    raise StackError(f"{name} ended (status {status}): {self._last_words(name)}")
            if time.monotonic() >= deadline:
                words = "\n".join(f"== {name}\n{self._last_words(name)}" for name in self._processes)
                raise StackError(f"not within {patience_s:.0f} s: {what}\n{words}")
            time.sleep(_LOOK_S)

    # --- inside -------------------------------------------------------------------------------

    def _prepare(self) -> dict[str, Server]:
        self.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        etcd_port, peer_port, api_port, manager_port, scheduler_port, kwok_port = free_ports([None] * 6)
        certificates = Certificates(directory=self.state_dir / "certificates")
        etcd = Etcd(directory=self.state_dir / "etcd", port=etcd_port, peer_port=peer_port)
        api_server = ApiServer(
            directory=self.state_dir / "kube-apiserver",
            port=api_port,
            etcd_url=etcd.url,
            certificates=certificates,
        )
        certificates.prepare()
        etcd.prepare()
        tokens = api_server.prepare()
        self._address = api_server.address
        for user in USERS:
            write_kubeconfig(self._kubeconfig_of(user), self._address, user=user, token=tokens[user])
        manager = ControllerManager(
            kubeconfig=self._kubeconfig_of("system:kube-controller-manager"),
            port=manager_port,
            certificates=certificates,
            node_monitor_grace_s=self._node_monitor_grace_s,
        )
        scheduler = Scheduler(
            kubeconfig=self._kubeconfig_of("system:kube-scheduler"), port=scheduler_port, certificates=certificates
        )
        kwok = Kwok(
            kubeconfig=self._kubeconfig_of("kwok"), port=kwok_port, node_monitor_grace_s=self._node_monitor_grace_s
        )
        return {
            "etcd": etcd,
            "kube-apiserver": api_server,
            "kube-controller-manager": manager,
            "kube-scheduler": scheduler,
            "kwok": kwok,
        }

    def _has_default_account(self) -> bool:
        with self.api_client() as api:
            accounts = client.CoreV1Api(api).list_namespaced_service_account("default").items
        return any(account.metadata is not None and account.metadata.name == "default" for account in accounts)

    def _server(self, name: str) -> Server:
        if name not in self._servers:
            raise StackError(f"no server {name!r}; there are: {', '.join(self._servers) or 'none before start'}")
        return self._servers[name]

    def _kubeconfig_of(self, user: str) -> Path:
        return self.state_dir / "kubeconfigs" / f"{user.replace(':', '.')}.yaml"

    def _log(self, name: str) -> Path:
        return self.state_dir / "logs" / f"{name}.out"

    def _last_words(self, name: str) -> str:
        log = self._log(name)
        return log.read_text(errors="replace")[-1500:] if log.exists() else "(no log)"
