"""The names of everything Waypost keeps in Redis, in one place for writers and readers.

The braces are part of the names: they are what Redis Cluster calls a hash tag, so the keys of one service would live
on one node. The scripts also touch keys of all services, hence a Cluster is not supported today.
"""

from __future__ import annotations

from dataclasses import dataclass

from waypost.model.names import ServiceKey

DEFAULT_PREFIX = "waypost:v1:"
"""The version is that of the layout: an incompatible one gets another prefix and can be filled beside this one."""


@dataclass(frozen=True, slots=True)
class Keys:
    """Key names under one prefix."""

    prefix: str = DEFAULT_PREFIX

    def route(self, service: ServiceKey) -> str:
        """HASH: instance id → endpoint JSON, routable endpoints only."""
        return f"{self.prefix}{{{service}}}:route"

    def meta(self, service: ServiceKey) -> str:
        """HASH: revision, epoch, digest, times, endpoints, protected, cause."""
        return f"{self.prefix}{{{service}}}:meta"

    def instances(self, service: ServiceKey) -> str:
        """HASH: instance id → JSON of every known instance, with the reason it is or is not routable."""
        return f"{self.prefix}{{{service}}}:instances"

    def log(self, service: ServiceKey) -> str:
        """STREAM, trimmed: revision → event time, rule, cause."""
        return f"{self.prefix}{{{service}}}:log"

    def readers(self, service: ServiceKey) -> str:
        """HASH: reader id → the revision it has applied, and when."""
        return f"{self.prefix}{{{service}}}:readers"

    @property
    def services(self) -> str:
        """SET of `namespace/service`."""
        return f"{self.prefix}services"

    @property
    def changes(self) -> str:
        """STREAM, trimmed: one entry per publication of any service."""
        return f"{self.prefix}changes"

    @property
    def epoch(self) -> str:
        """HASH: the writer that owns the tables: epoch, job_id, attempt, opened_at."""
        return f"{self.prefix}epoch"

    @property
    def generation(self) -> str:
        """STRING: random name of this life of the store."""
        return f"{self.prefix}generation"
