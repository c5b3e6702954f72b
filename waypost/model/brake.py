"""The brake: lapses that would take too much at once are held together.

When many instances fall silent within seconds, what failed is far more often the way from them to the log than the
instances. So a batch of lapses is judged on the numbers of the whole service and the whole fleet:

    of a service   within 30 s   more than 50 %, and 3 or more   hold what is pending of this service
    of the fleet   within 60 s   more than 15 %, and 10 or more  hold everything that is pending

*Pending* are the lapses of this tick and those held already; the verdict is given anew in every tick with whoever is
still silent. When enough of them beat again, the rest is few enough to be believed, and leaves. Compare Eureka's self
preservation, which latches and looks at the fleet's rate of beats only.

    share = (pending + left within the window) / (live + waiting + left within the window)

*Left* are lapses that passed, *waiting* are instances whose lease lapsed and that are still in the table. All
numbers are leased instances: endpoints of sets have no lease to lapse.

Instances that fall silent together do not lapse in one tick, but spread over the time between two of their beats. The
first ones pass, because nobody can know yet. When the limit is exceeded, those that left within the window are taken
back: the batch is held whole. Whoever left because its hold time was over, or by an operator's word, is not counted
and not taken back.

The fleet needs a floor as the service does: of six instances one is 17 %, and a single death must not wait for ten
minutes. Ten is where 15 % of a fleet begins to be more than one bad service of the usual size.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

from waypost.model.events import Hold, Target
from waypost.model.names import ServiceKey


@dataclass(frozen=True, slots=True, kw_only=True)
class BrakeRules:
    """The limits, in percent, instances and ms of log time. What each is for is said in `waypost.settings.Brake`."""

    enabled: bool = True
    service_percent: int = 50
    service_min: int = 3
    service_ms: int = 30_000
    fleet_percent: int = 15
    fleet_min: int = 10
    fleet_ms: int = 60_000
    hold_ms: int = 600_000
    hold_by_service: Mapping[ServiceKey, int] = field(default_factory=dict)

    def hold_of(self, service: ServiceKey) -> int:
        """Return how long at most an endpoint of a service stays after its lease, ms."""
        return self.hold_by_service.get(service, self.hold_ms)


class Recent:
    """Which instances left by their lease within the last `length` ms, oldest first."""

    def __init__(self, length: int) -> None:
        self._length = length
        self._left: OrderedDict[Target, int] = OrderedDict()
        self.by_service: dict[ServiceKey, dict[Target, None]] = {}

    def __len__(self) -> int:
        return len(self._left)

    def add(self, target: Target, at: int) -> None:
        """Note that it left `at`, which is not before any noted before."""
        self.discard(target)
        self._left[target] = at
        self.by_service.setdefault(target.service, {})[target] = None

    def discard(self, target: Target) -> None:
        """Forget it: it is back, or gone for another reason."""
        if self._left.pop(target, None) is not None:
            self._take_out(target)

    def expire(self, now: int) -> None:
        """Forget whoever left at or before `now - length`."""
        while self._left and next(iter(self._left.values())) <= now - self._length:
            target, _ = self._left.popitem(last=False)
            self._take_out(target)

    def _take_out(self, target: Target) -> None:
        of_service = self.by_service[target.service]
        del of_service[target]
        if not of_service:
            del self.by_service[target.service]


class Brake:
    """The numbers, and the verdict on them.

    `live` holds the live leases per service. The rest follows from what the gate keeps and is told again after a
    restore.
    """

    def __init__(self, rules: BrakeRules, live: dict[ServiceKey, int]) -> None:
        self.rules = rules
        self.live = live
        self._fleet = sum(live.values())
        self._waiting: Counter[ServiceKey] = Counter()
        self.all_waiting = 0
        self._of_service = Recent(rules.service_ms)
        self._of_fleet = Recent(rules.fleet_ms)

    def count(self, changes: Mapping[ServiceKey, int]) -> None:
        """Add up what the shards said of their live leases."""
        for service, n in changes.items():
            now = self.live.get(service, 0) + n
            if now:
                self.live[service] = now
            else:
                self.live.pop(service, None)
            self._fleet += n

    def waits(self, service: ServiceKey, n: int = 1) -> None:
        """Note that an instance without a live lease stays in the table, or (-1) no longer waits there."""
        self._waiting[service] += n
        self.all_waiting += n

    def waiting_of(self, service: ServiceKey) -> int:
        """Return how many instances of a service stay in the table without a live lease."""
        return self._waiting[service]

    def left(self, target: Target, at: int) -> None:
        """Note a lapse that passed, and may be taken back."""
        self._of_service.add(target, at)
        self._of_fleet.add(target, at)

    def forget(self, target: Target) -> None:
        """Take back what `left` noted."""
        self._of_service.discard(target)
        self._of_fleet.discard(target)

    def taken_back(self, service: ServiceKey, why: Hold) -> list[Target]:
        """Return who left too lately to be out when the service is held; as of the last `judge`."""
        recent = self._of_fleet if why is Hold.FLEET else self._of_service
        return list(recent.by_service.get(service, ()))

    def judge(
        self, now: int, held: Mapping[ServiceKey, int], fresh: Mapping[ServiceKey, int]
    ) -> dict[ServiceKey, Hold]:
        """Return the services whose pending lapses must be held, and why.

        `held` are those held until now, `fresh` those of this tick. Costs a look at each of these services.
        """
        rules = self.rules
        if not rules.enabled:
            return {}
        self._of_service.expire(now)
        self._of_fleet.expire(now)
        total = sum(fresh.values())
        left = len(self._of_fleet)
        taken = left + sum(held.values()) + total
        size = self._fleet + self.all_waiting + total + left
        if taken >= rules.fleet_min and 100 * taken > rules.fleet_percent * size:
            return dict.fromkeys(held.keys() | fresh.keys() | self._of_fleet.by_service.keys(), Hold.FLEET)
        verdict = {}
        for service in held.keys() | fresh.keys():
            left = len(self._of_service.by_service.get(service, ()))
            new = fresh.get(service, 0)
            taken = left + held.get(service, 0) + new
            size = self.live.get(service, 0) + self._waiting[service] + new + left
            if taken >= rules.service_min and 100 * taken > rules.service_percent * size:
                verdict[service] = Hold.SERVICE
        return verdict
