"""All known bugs. To add one, put it into the file of `tests/mutants/bugs` that fits; CONTRIBUTING.md says how."""

from __future__ import annotations

from tests.mutants.bugs import isolations, leases, records, repairs, restores, services, store, writing

KNOWN_BUGS = (
    *store.BUGS,
    *leases.BUGS,
    *services.BUGS,
    *isolations.BUGS,
    *records.BUGS,
    *writing.BUGS,
    *restores.BUGS,
    *repairs.BUGS,
)
