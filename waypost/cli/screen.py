"""What `waypost get` was asked, and how it prints the answer and every change of it."""

from __future__ import annotations

import time
from dataclasses import dataclass

import click

from waypost.cli.output import Row, TableWriter, print_document
from waypost.cli.resources import Document, Resource
from waypost.model.names import ServiceKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What was asked for. `namespace` is None for all of them."""

    resource: Resource
    namespace: str | None
    service: str | None
    output: str

    def covers(self, service: ServiceKey) -> bool:
        return self.namespace in (None, service.namespace) and self.service in (None, service.service)


class Screen:
    """Prints documents, first all of them, then those that changed."""

    def __init__(self, question: Question) -> None:
        self._question = question
        resource = question.resource
        wide = resource.wide_columns if question.output == "wide" else ()
        self._skip_service = question.service is not None and resource.columns[0] == "SERVICE"
        columns = resource.columns[1:] if self._skip_service else resource.columns
        self._namespaced = question.namespace is None
        self._prefix = ("NAMESPACE",) if self._namespaced else ()
        self._columns = (*self._prefix, *columns, *wide)
        self._table: TableWriter | None = None

    def show_all(self, documents: list[Document]) -> None:
        question = self._question
        if question.output in ("json", "yaml"):
            single = question.service is not None and question.namespace is not None
            print_document(documents[0] if single else {"items": documents}, question.output)
        else:
            now_ms = time.time_ns() // 1_000_000
            rows = [row for document in documents for _, row in self._rows(document, now_ms)]
            if not rows:
                self.show_nothing()
            self._writer(self._columns).write(rows)

    def show_nothing(self) -> None:
        namespace = self._question.namespace
        where = "" if namespace is None else f" in {namespace} namespace"
        click.echo(f"No resources found{where}.", err=True)

    def show_change(self, old: Document | None, new: Document | None) -> None:
        """Print what differs: the new document, or the rows that came, changed and went."""
        if self._question.output in ("json", "yaml"):
            if new is not None and new != old:
                print_document(new, self._question.output, follows=True)
            elif new is None and old is not None:
                print_document({**old, "deleted": True}, self._question.output, follows=True)
            return
        # Ages move all the time: both are shown as they are at one moment.
        now_ms = time.time_ns() // 1_000_000
        before, after = (dict(self._rows(d, now_ms)) if d is not None else {} for d in (old, new))
        lines: list[Row] = [
            ("ADDED" if key not in before else "MODIFIED", *row) for key, row in after.items() if before.get(key) != row
        ]
        lines += [("DELETED", *row) for key, row in before.items() if key not in after]
        self._writer(("EVENT", *self._columns)).write(lines)

    def _writer(self, columns: tuple[str, ...]) -> TableWriter:
        if self._table is None:
            self._table = TableWriter(columns)
        return self._table

    def _rows(self, document: Document, now_ms: int) -> list[tuple[str, Row]]:
        result: list[tuple[str, Row]] = []
        for key, cells, wide in self._question.resource.rows(document, now_ms):
            shown = cells[1:] if self._skip_service else cells
            namespace = (document["namespace"],) if self._namespaced else ()
            result.append((key, (*namespace, *shown, *(wide if self._question.output == "wide" else ()))))
        return result
