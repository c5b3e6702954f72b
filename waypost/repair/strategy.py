"""How many of its pods a workload may take down at once when its template changes.

    Deployment    RollingUpdate: maxUnavailable (25 %, rounded down; 1 when maxSurge is 0 too) · Recreate: all
    StatefulSet   RollingUpdate: maxUnavailable (1, a share rounded up)                        · OnDelete: none
    DaemonSet     RollingUpdate: maxUnavailable (1, a share rounded up)                        · OnDelete: none

Source: the API's documentation of `DeploymentStrategy`, `StatefulSetUpdateStrategy` and `DaemonSetUpdateStrategy`. What
cannot be read counts as all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from waypost.repair.objects import DEPLOYMENT


def at_once(kind: str, spec: Mapping[str, Any], replicas: int) -> int:
    """Return the number for a workload's `spec`, from 0 to `replicas`."""
    strategy = spec.get("strategy" if kind == DEPLOYMENT else "updateStrategy") or {}
    name, rolling = strategy.get("type") or "RollingUpdate", strategy.get("rollingUpdate") or {}
    if name == "OnDelete" and kind != DEPLOYMENT:
        return 0
    if name != "RollingUpdate":
        return replicas
    down = kind == DEPLOYMENT
    default = "25%" if down else 1
    unavailable = _number(rolling.get("maxUnavailable", default), replicas, down=down)
    surge = _number(rolling.get("maxSurge", "25%" if down else 0), replicas, down=False)
    return min(replicas, unavailable if surge else max(1, unavailable))


def _number(told: Any, replicas: int, *, down: bool) -> int:
    """Return a number of pods, which may be told as a share."""
    try:
        if not isinstance(told, str):
            return max(0, int(told))
        share = max(0, int(told.removesuffix("%"))) * replicas
        return share // 100 if down else -(-share // 100)
    except (TypeError, ValueError):
        return replicas
