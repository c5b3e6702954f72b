"""A known bug as data: which text of which file is replaced by what, and which tests must notice.

A mutant does not prove that the suite finds every bug of its kind. It proves that the rule it breaks is guarded by a
test, and keeps that test from becoming one that never fails.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


class NoLongerFits(AssertionError):
    """The code has moved on, and the mutant has to follow it: the bug it stands for is still possible."""


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """`name` is a slug in the words of the field, `harm` what users would see.

    `file` and `found_by` (node ids of the suite, without parameters or with) are relative to the root. `text` must
    occur exactly once. Each entry of `found_by` has to find the bug by itself.
    """

    name: str
    harm: str
    file: str
    text: str
    instead: str
    found_by: tuple[str, ...]

    def of(self, source: str) -> str:
        """Return the source with the bug in it. Raises NoLongerFits."""
        found = source.count(self.text)
        if found != 1:
            raise NoLongerFits(
                f"the mutant {self.name!r} no longer fits, adapt it: {self.file} has its text {found} times instead of "
                f"once:\n{self.text}"
            )
        return source.replace(self.text, self.instead)

    def apply(self, root: Path) -> None:
        """Put the bug into a tree, as a new file: the old one may be shared with other trees by hard links."""
        path = root / self.file
        mutated = self.of(path.read_text(encoding="utf-8"))
        path.unlink()
        path.write_text(mutated, encoding="utf-8")
