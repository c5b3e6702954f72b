"""What says of itself that nobody shall repair it.

    kubectl annotate deployment web waypost.io/repair=off

It is read with the object, each time before it is changed, so it counts at once and also for what was granted already.
A workload's word is for its pods too.
"""

from __future__ import annotations

from collections.abc import Mapping

OPT_OUT = "waypost.io/repair"
"""A label or an annotation of a pod, a workload or a node. Whatever it says, unless it is `on`, keeps repairs away: a
word that nobody understands was written by somebody who wanted something."""


def opted_out(*marks: Mapping[str, str]) -> bool:
    """Tell whether one of an object's labels and annotations keeps repairs away."""
    return any(OPT_OUT in one and one[OPT_OUT].strip().lower() != "on" for one in marks)
