"""The stack under the show: the one that runs, or one of our own."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from waypost.demo.stage import say
from waypost.errors import StackError
from waypost.local import control
from waypost.local.control import Event
from waypost.local.state import Stack, load_stack, running_stack
from waypost.local.supervisor import Options

DEFAULT_GATEWAY = "traefik"
_UP_S = 300.0


@dataclass(kw_only=True)
class Ground:
    """A state directory and whether what runs there is ours to stop."""

    state_dir: Path
    ours: bool = False
    repairs: Path | None = None
    """The kubeconfig of the cluster that the repair job shall repair; None: no repair job."""

    def bring_up(self, *, lasting: bool, gateway: str | None) -> Stack:
        """Return the running stack, started if need be, as `waypost up --detach` does. `lasting`: it outlives us.

        `gateway` None: that of the running stack, or the default. Raises StackError.
        """
        try:
            running = running_stack(self.state_dir)
        except StackError:
            running = None
        if running is not None and gateway not in (None, running.gateway):
            raise StackError(f"the stack is up with gateway {running.gateway}; `waypost down` first")
        if running is not None and running.ready:
            say(f"using the stack that runs in {self.state_dir}")
            return running
        alive: Callable[[], bool] = lambda: load_stack(self.state_dir).is_up  # noqa: E731
        if running is None:
            # What a crashed supervisor left would keep the ports and the data directories.
            control.stop(self.state_dir, say=say)
            control.claim(self.state_dir)
            self.ours = True
            gateway = gateway or DEFAULT_GATEWAY
            with_gateway = f", {gateway.capitalize()}" if gateway != "none" else ""
            say(f"starting Kafka, Valkey, Flink{with_gateway} and the route job")
            record = control.pack_job(self.state_dir)
            options = Options(job=record, gateway=gateway)
            if self.repairs is not None:
                options = replace(options, repair=control.repair_of(record, self.repairs))
            process = control.start(self.state_dir, options, dies_with_us=not lasting)
            alive = lambda: process.poll() is None  # noqa: E731
        began = time.monotonic()
        for event in control.follow(self.state_dir, until=self._is_ready, alive=alive, timeout_s=_UP_S):
            say(f"    {event.part:<15} {event.what:<10} {event.detail}")
        stack = load_stack(self.state_dir)
        say(f"the stack is up after {time.monotonic() - began:.1f} s, build {stack.job.build if stack.job else '?'}")
        return stack

    def clear(self) -> None:
        """Stop the stack if it is ours. Its data stays."""
        if self.ours:
            say("stopping the stack")
            control.stop(self.state_dir)

    def _is_ready(self, event: Event) -> bool:
        # The diary may tell of an earlier readiness that has passed.
        return event.part == "stack" and event.what == "ready" and load_stack(self.state_dir).ready
