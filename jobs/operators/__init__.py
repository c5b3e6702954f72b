"""Adapters between Flink's keyed state and the pure folds of `waypost.model`; no rule lives here."""

import sys

# All operators of a TaskManager share one interpreter lock. A call into Java (state, timers, metrics: 2 to 4 us) gives
# it away, and whoever computes meanwhile keeps it for this long. With CPython's 5 ms, each such call of one operator
# could take 5 ms while another one worked.
sys.setswitchinterval(0.0002)
