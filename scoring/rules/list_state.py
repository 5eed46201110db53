"""The entries of all lists: a fold over the records of `lists`.

A state never changes: an update gives a new one, for the cost of its entries alone. The states of one history share a
table that keeps, for each value, the versions of its entries by the number of the update; a state reads those up to its
own. Versions that no living state reads are dropped.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple
from weakref import WeakSet

import numpy as np

from schemas.records import Effect, TimeMs
from schemas.rules import ListEntry
from scoring.arrays import Columns, Ints
from scoring.coded_columns import CodedColumns

SNOOZE = "snooze"


class EntryTerms(NamedTuple):
    """What an entry says of its value. Entries of one import share it."""

    list: str
    effect: Effect | str | None  # SNOOZE: `rule` does not match; None: only rules look the entry up
    rule: str | None
    reason: str
    by: str
    at_ms: TimeMs
    until_ms: TimeMs | None  # by event time, exclusive

    def holds(self, event_time_ms: int) -> bool:
        """Whether the entry counts for a transaction of this time."""
        return self.until_ms is None or event_time_ms < self.until_ms


class ListHit(NamedTuple):
    """An entry that a transaction met."""

    row: int
    field: str
    value: str
    terms: EntryTerms


class ListHits(NamedTuple):
    """The entries that the transactions of a batch met."""

    members: Mapping[tuple[str, str], Sequence[int]]  # by field and list: rows, ascending
    effects: Sequence[ListHit]  # entries with an effect of their own, by field, then by row
    snoozes: Sequence[ListHit]


NO_HITS = ListHits(MappingProxyType({}), (), ())


class _Version(NamedTuple):
    update: int  # number of the update from which on it holds
    terms: tuple[EntryTerms, ...]  # of all entries of the value; empty: none is left


class _Table:
    """The versions of all values, shared by the states of one history."""

    def __init__(self) -> None:
        self.update = 0  # number of the newest
        self.fields: dict[str, dict[str, tuple[_Version, ...]]] = {}
        self.states: WeakSet[ListState] = WeakSet()
        self.replaced: deque[tuple[int, str, str]] = deque()  # update, field, value: of versions with older ones

    def drop_unread(self) -> None:
        """Drop the versions that no living state reads."""
        oldest = min((state.update for state in self.states), default=self.update)
        while self.replaced and self.replaced[0][0] <= oldest:
            _, field, value = self.replaced.popleft()
            values = self.fields.get(field, {})
            versions = values.get(value, ())
            first = max((i for i, version in enumerate(versions) if version.update <= oldest), default=0)
            kept = versions[first:]
            if kept and not kept[0].terms:
                kept = kept[1:]
            if kept:
                values[value] = kept
            else:
                values.pop(value, None)
            if not values:
                self.fields.pop(field, None)


class ListState:
    """All lists at one offset of the topic. Immutable; several threads may read it while one makes newer states."""

    __slots__ = ("__weakref__", "_table", "n_entries", "update")

    def __init__(self, table: _Table | None = None, n_entries: int = 0) -> None:
        self._table = _Table() if table is None else table
        self.update = self._table.update
        self.n_entries = n_entries  # expired ones included
        self._table.states.add(self)

    def updated(self, entries: Iterable[ListEntry]) -> "ListState":
        """The state after these records, in their order."""
        table = self._table if self.update == self._table.update else self._copied_table()
        update, n_entries = table.update + 1, self.n_entries
        shared: dict[tuple[EntryTerms, ...], tuple[_Version, ...]] = {}
        for entry in entries:
            values = table.fields.setdefault(entry.field, {})
            versions = values.get(entry.value, ())
            before = versions[-1].terms if versions else ()
            terms = tuple(t for t in before if (t.list, t.rule) != (entry.list, entry.rule))
            if not entry.removed:
                terms = (*terms, _terms(entry))
            n_entries += len(terms) - len(before)
            older = versions[:-1] if versions and versions[-1].update == update else versions
            if older or not terms:
                values[entry.value] = (*older, _Version(update, terms))
                table.replaced.append((update, entry.field, entry.value))
            else:
                single = shared.get(terms)
                if single is None:
                    single = shared[terms] = (_Version(update, terms),)
                values[entry.value] = single
        table.update = update
        state = ListState(table, n_entries)
        table.drop_unread()
        return state

    def lookup(self, key: str | None, keys: Sequence[str], columns: Columns, event_time_ms: Ints) -> ListHits:
        """The entries that the transactions of a batch meet.

        key: name of the key field, whose texts are `keys`. columns: of the batch; only categories are looked up.
        """
        members: dict[tuple[str, str], list[int]] = {}
        effects: list[ListHit] = []
        snoozes: list[ListHit] = []
        for field, values in tuple(self._table.fields.items()):
            for row, value in _rows_on(values, field, key, keys, columns):
                time_ms = int(event_time_ms[row])
                for terms in self._terms_of(values, value):
                    if not terms.holds(time_ms):
                        continue
                    if terms.effect == SNOOZE:
                        snoozes.append(ListHit(row, field, value, terms))
                        continue
                    rows = members.setdefault((field, terms.list), [])
                    if not rows or rows[-1] != row:
                        rows.append(row)
                    if terms.effect is not None:
                        effects.append(ListHit(row, field, value, terms))
        return ListHits(members, effects, snoozes) if members or snoozes else NO_HITS

    def find(self, field: str, value: str) -> tuple[EntryTerms, ...]:
        """The entries of a value, expired ones included."""
        return self._terms_of(self._table.fields.get(field, {}), value)

    def entries(self) -> Iterator[tuple[str, str, EntryTerms]]:
        """Field, value and terms of every entry, expired ones included."""
        for field, values in tuple(self._table.fields.items()):
            for value in tuple(values):
                for terms in self._terms_of(values, value):
                    yield field, value, terms

    def _terms_of(self, values: Mapping[str, tuple[_Version, ...]], value: str) -> tuple[EntryTerms, ...]:
        for version in reversed(values.get(value, ())):
            if version.update <= self.update:
                return version.terms
        return ()

    def _copied_table(self) -> _Table:
        """A table of what this state reads: it is the first of a history of its own."""
        table = _Table()
        for field, value, terms in self.entries():
            values = table.fields.setdefault(field, {})
            before = values[value][0].terms if value in values else ()
            values[value] = (_Version(0, (*before, terms)),)
        return table


def _terms(entry: ListEntry) -> EntryTerms:
    return EntryTerms(
        list=entry.list,
        effect=entry.effect,
        rule=entry.rule,
        reason=entry.reason,
        by=entry.by,
        at_ms=entry.at_ms,
        until_ms=entry.until_ms,
    )


def _rows_on(
    values: Mapping[str, object], field: str, key: str | None, keys: Sequence[str], columns: Columns
) -> list[tuple[int, str]]:
    """Rows and values of a field that are in `values`, by row."""
    if field == key:
        found = values.keys() & keys
        return [(row, text) for row, text in enumerate(keys) if text in found] if found else []
    if isinstance(columns, CodedColumns) and (coded := columns.coded(field)) is not None:
        indices, table = coded
        present = np.flatnonzero(np.bincount(indices)).tolist()
        levels = {index: table.levels[index] for index in present}
        on_list = [index for index, level in levels.items() if level in values]
        rows = np.flatnonzero(np.isin(indices, on_list)).tolist() if on_list else []
        return [(row, levels[indices[row]]) for row in rows]  # type: ignore[misc]
    column = columns.get(field)
    if column is None or column.dtype != object:
        return []
    return [(row, text) for row, text in enumerate(column.tolist()) if text in values]
