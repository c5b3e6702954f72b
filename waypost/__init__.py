"""Waypost's house: everything that runs without Flink.

The rules live in `waypost.model`, bytes in `waypost.wire`, readers and writers of a registry in
`waypost.client`. The Flink jobs (`jobs/`, `sources/`, `sinks/`, `schemas/`) build on this package and
never the other way round.
"""
