"""Instances to look after, only the fields that matter."""

from __future__ import annotations

from typing import Any

from waypost.agent.checks import Check
from waypost.agent.member import Member, Who
from waypost.model.events import Attributes

P1, P2, CART = Who("payments", "p-1"), Who("payments", "p-2"), Who("cart", "c-1")
NOBODY_LOOKS = Check(kind="none")


def a_member(who: Who = P1, check: Check = NOBODY_LOOKS, **attributes: Any) -> Member:
    return Member(who=who, check=check, attributes=Attributes(**{"address": "10.1.2.3", "port": 8080, **attributes}))
