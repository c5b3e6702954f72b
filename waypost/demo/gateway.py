"""Requests through a real gateway: who makes them, and what became of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from waypost.demo import visitor
from waypost.demo.figures import Expectation, at_least, exactly
from waypost.demo.lines import Line
from waypost.demo.observed import FailedVisit, Observed
from waypost.demo.worker import Worker
from waypost.local.process import TAG

VISITOR = "visitor"
_NOTICED_S = 0.5
"""Within this a gateway on a busy machine has seen that connections were closed."""


@dataclass(kw_only=True)
class Visits:
    """The visitor of a show, and its judge."""

    kind: str
    per_second: float
    worker: Worker
    observed: Observed

    @classmethod
    def begin(
        cls, kind: str, settings: visitor.Settings, state_dir: Path, observed: Observed, take: Callable[[Line], None]
    ) -> Visits:
        """Start the visitor's process; call it on the main thread."""
        worker = Worker(
            VISITOR,
            "waypost.demo.visitor",
            visitor.to_json(settings),
            take=take,
            log=state_dir / "logs" / "demo-visitor.log",
            environ={TAG: str(state_dir)},
        )
        return cls(kind=kind, per_second=settings.per_second, worker=worker, observed=observed)

    def aim(self, service: str | None = None, per_second: float | None = None) -> None:
        """Send all requests to one service, this often; without arguments, as at the beginning."""
        self.worker.ask("visit", service=service, per_second=per_second or self.per_second)

    def end(self) -> None:
        """Let the requests under way end, and return when the process is gone."""
        self.observed.end_expected(VISITOR)
        self.worker.let_go()
        self.worker.wait(visitor.TIMEOUT_S + 5.0)

    def sum_up(self, seconds: float) -> tuple[dict[str, Any], list[Expectation]]:
        """Return the figures of the whole show and what was expected of them."""
        observed = self.observed
        cut = [visit for visit in observed.failed_visits if self._was_cut(visit)]
        failed = [visit for visit in observed.failed_visits if visit not in cut]
        figures = {
            "kind": self.kind,
            "requests": observed.visits,
            "failed": len(failed),
            "cut_by_a_kill": len(cut),
            "reasons": dict(Counter(f"{visit.service}: {visit.reason}" for visit in observed.failed_visits)),
        }
        return figures, [
            at_least(f"requests through {self.kind}", observed.visits, int(seconds * self.per_second / 2)),
            exactly("failed requests, but for those a SIGKILL cut off", len(failed), 0),
        ]

    def _was_cut(self, visit: FailedVisit) -> bool:
        """Tell whether the instance that served it was killed meanwhile, or so shortly before that the gateway still
        held a connection to it. No gateway may ask another one again then: who knows what the first one has done
        already."""
        return any(
            member.service == visit.service
            and member.killed is not None
            and visit.began - _NOTICED_S <= member.killed <= visit.at
            for member in list(self.observed.members.values())
        )
