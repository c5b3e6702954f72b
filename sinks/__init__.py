"""How results leave the jobs: writers that may be called twice and by the wrong process, and stay right.

Flink replays after a failure, so everything here is delivered at least once; every writer is therefore idempotent
(a revision or an action id decides) and fenced (an epoch decides). Nothing in this room makes a decision of its own.
"""
