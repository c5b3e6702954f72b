"""What a publication must be before any store takes it, and the texts a store keeps of it.

Every store refuses the same nonsense in the same words, and writes the same meta fields; hence one place for both.
"""

from __future__ import annotations

import orjson

from waypost.model.route_table import ChangeOp, Publication, format_digest
from waypost.model.stamp import Cause

REVISION_LIMIT = 1 << 53
"""Beyond it Lua and JavaScript no longer compare integers exactly."""


def require_sense(publication: Publication) -> None:
    """Raise ValueError for a publication that no state of the store could make right.

    That is a mistake in the writer: were it published, a reader could see a revision go back, or a table change
    without one.
    """
    base, revision = publication.base, publication.revision
    about = f"{publication.op.value} of {publication.service} from revision {base} to {revision}"
    if not 0 <= base <= revision < REVISION_LIMIT:
        raise ValueError(f"{about}: revisions must not go back, and must lie in 0…2^53")
    if publication.op is ChangeOp.DELTA:
        if revision == base and (publication.routes or publication.instances):
            raise ValueError(f"{about}: a change needs a new revision")
    elif revision == 0:
        raise ValueError(f"{about}: only a delta that carries nothing but answers may have revision 0")
    if publication.op is ChangeOp.SNAPSHOT and (
        None in publication.routes.values() or None in publication.instances.values()
    ):
        raise ValueError(f"{about}: a snapshot holds everything, so nothing in it can go away")


def causes_json(causes: tuple[Cause, ...]) -> str:
    """Write input positions as people read them with redis-cli."""
    return orjson.dumps([cause._asdict() for cause in causes]).decode()


def meta_fields(publication: Publication, epoch: int, now_ms: int) -> dict[str, str]:
    """Return the fields of `meta` that a publication sets; all others stay as they are."""
    return {
        "revision": str(publication.revision),
        "epoch": str(epoch),
        "digest": format_digest(publication.digest),
        "updated_at": str(now_ms),
        "event_time": str(publication.event_time),
        "endpoints": str(publication.endpoints),
        "protected": "1" if publication.protected else "0",
        "cause": causes_json(publication.causes),
        "rule": publication.rule,
        "position": publication.position,
    }


def log_fields(publication: Publication) -> dict[str, str]:
    """Return the entry of the service's `log` stream."""
    return {
        "revision": str(publication.revision),
        "event_time": str(publication.event_time),
        "rule": publication.rule,
        "cause": causes_json(publication.causes),
    }
