"""The entries of all lists: a fold over the records of `lists`.

A state never changes: an update gives a new one, for the cost of its entries alone. The states of one history share a
table that keeps, for each value, the versions of its entries by the number of the update; a state reads those up to its
own. Versions that no living state reads are dropped.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import compress, islice
from types import MappingProxyType
from typing import NamedTuple
from weakref import WeakSet

import numpy as np

from schemas.records import Effect, TimeMs
from schemas.rules import ListEntry
from scoring.arrays import Array, Columns, Indices, Ints
from scoring.coded_columns import CodedColumns, LevelTable

SNOOZE = "snooze"
MIN_FILTERED = 20_000  # values of a field; fewer fit into the cache
BITS_PER_VALUE = 16
MAX_KEPT_TABLES = 64  # level tables whose levels were looked up in a state


class EntryTerms(NamedTuple):
    """What an entry states of its value. Entries of one import share it."""

    list: str
    effect: Effect | str | None  # SNOOZE: `rule` does not match; None: only rules look the entry up
    rule: str | None
    reason: str
    by: str
    at_ms: TimeMs
    until_ms: TimeMs | None  # by event time, exclusive


class ListHit(NamedTuple):
    """Entries of equal terms that transactions met."""

    terms: EntryTerms
    rows: Indices  # ascending


class ListHits(NamedTuple):
    """The entries that the transactions of a batch met, in no order."""

    members: Mapping[tuple[str, str], Indices]  # by field and list: rows; one with two entries occurs twice
    effects: Sequence[ListHit]  # entries with an effect of their own
    snoozes: Sequence[ListHit]


NO_HITS = ListHits(MappingProxyType({}), (), ())


class _Version(NamedTuple):
    update: int  # number of the update from which on it holds
    terms: tuple[EntryTerms, ...]  # of all entries of the value; empty: none is left


class _Values:
    """The versions of a field's values.

    Looking up each key of a batch in a large dictionary costs two accesses to main memory, one after the other. So a
    filter of hashes, which is much smaller and read for all keys at once, is asked first. It only grows: a value that
    was dropped is looked up without result.
    """

    def __init__(self) -> None:
        self.versions: dict[str, tuple[_Version, ...]] = {}
        self._bits: Array = np.zeros(0, np.uint8)  # a power of two; empty: no filter yet

    def add_to_filter(self, values: Sequence[str]) -> None:
        """Add new values, which are in `versions` already."""
        n = len(self.versions)
        if n < MIN_FILTERED:
            return
        if 8 * len(self._bits) < BITS_PER_VALUE * n:
            size = 1 << (4 * BITS_PER_VALUE * n // 8 - 1).bit_length()
            bits = np.zeros(size, np.uint8)
            every = iter(tuple(self.versions))
            while part := list(islice(every, 10_000)):  # other threads run between the parts
                _set_bits(bits, part)
            self._bits = bits
        else:
            _set_bits(self._bits, values)

    def rows_of(self, texts: Sequence[str]) -> list[int]:
        """The rows whose text is a value."""
        bits, n = self._bits, len(texts)
        rows: Iterable[int] = range(n)
        if len(bits):
            places, masks = _places(bits, texts)
            rows = np.flatnonzero(bits[places] & masks).tolist()
            texts = [texts[row] for row in rows]
        return list(compress(rows, map(self.versions.__contains__, texts)))


def _places(bits: Array, values: Sequence[str]) -> tuple[Array, Array]:
    """The byte and the mask of the bit of each value."""
    hashes = np.fromiter(map(hash, values), np.int64, len(values))
    return (hashes >> 3) & (len(bits) - 1), np.uint8(1) << (hashes & 7).astype(np.uint8)


def _set_bits(bits: Array, values: Sequence[str]) -> None:
    np.bitwise_or.at(bits, *_places(bits, values))


class _Table:
    """The versions of all values, shared by the states of one history."""

    def __init__(self) -> None:
        self.update = 0  # number of the newest
        self.fields: dict[str, _Values] = {}
        self.states: WeakSet[ListState] = WeakSet()
        self.replaced: deque[tuple[int, str, str]] = deque()  # update, field, value: of versions with older ones

    def drop_unread(self) -> None:
        """Drop the versions that no living state reads."""
        oldest = min((state.update for state in self.states), default=self.update)
        while self.replaced and self.replaced[0][0] <= oldest:
            _, field, value = self.replaced.popleft()
            if (values := self.fields.get(field)) is None:
                continue
            versions = values.versions.get(value, ())
            first = max((i for i, version in enumerate(versions) if version.update <= oldest), default=0)
            kept = versions[first:]
            if kept and not kept[0].terms:
                kept = kept[1:]
            if kept:
                values.versions[value] = kept
            else:
                values.versions.pop(value, None)
            if not values.versions:
                del self.fields[field]


class ListState:
    """All lists at one offset of the topic. Immutable; several threads may read it while one makes newer states."""

    __slots__ = ("__weakref__", "_levels", "_table", "n_entries", "update")

    def __init__(self, table: _Table | None = None, n_entries: int = 0) -> None:
        self._table = _Table() if table is None else table
        self.update = self._table.update
        self.n_entries = n_entries  # expired ones included
        self._levels: dict[tuple[str, LevelTable], tuple[int, list[int]]] = {}  # a cache
        self._table.states.add(self)

    def updated(self, entries: Iterable[ListEntry]) -> "ListState":
        """The state after these records, in their order."""
        table = self._table if self.update == self._table.update else self._copied_table()
        update, n_entries = table.update + 1, self.n_entries
        shared: dict[tuple[EntryTerms, ...], tuple[_Version, ...]] = {}
        new: dict[str, list[str]] = {}
        for entry in entries:
            if (of_field := table.fields.get(entry.field)) is None:
                of_field = table.fields[entry.field] = _Values()
            values = of_field.versions
            versions = values.get(entry.value, ())
            if not versions:
                new.setdefault(entry.field, []).append(entry.value)
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
        for field, added in new.items():
            table.fields[field].add_to_filter(added)
        table.update = update
        state = ListState(table, n_entries)
        table.drop_unread()
        return state

    def lookup(self, key: str | None, keys: Sequence[str], columns: Columns, event_time_ms: Ints) -> ListHits:
        """The entries that the transactions of a batch meet.

        key: name of the key field, whose texts are `keys`. columns: of the batch; only categories are looked up.
        """
        members: dict[tuple[str, str], list[Array]] = {}
        effects: list[ListHit] = []
        snoozes: list[ListHit] = []
        for field, values in tuple(self._table.fields.items()):
            for versions, found in _by_versions(values, *self._rows_on(values, field, key, keys, columns)):
                for terms in self._terms_of(versions):
                    rows = np.array(found)
                    if terms.until_ms is not None:
                        rows = rows[event_time_ms[rows] < terms.until_ms]
                    if not len(rows):
                        continue
                    if terms.effect == SNOOZE:
                        snoozes.append(ListHit(terms, rows))
                        continue
                    members.setdefault((field, terms.list), []).append(rows)
                    if terms.effect is not None:
                        effects.append(ListHit(terms, rows))
        if not (members or snoozes):
            return NO_HITS
        return ListHits({key: np.concatenate(parts) for key, parts in members.items()}, effects, snoozes)

    def find(self, field: str, value: str) -> tuple[EntryTerms, ...]:
        """The entries of a value, expired ones included."""
        values = self._table.fields.get(field)
        return () if values is None else self._terms_of(values.versions.get(value, ()))

    def entries(self) -> Iterator[tuple[str, str, EntryTerms]]:
        """Field, value and terms of every entry, expired ones included."""
        for field, values in tuple(self._table.fields.items()):
            for value, versions in tuple(values.versions.items()):
                for terms in self._terms_of(versions):
                    yield field, value, terms

    def _terms_of(self, versions: Sequence[_Version]) -> tuple[EntryTerms, ...]:
        for version in reversed(versions):
            if version.update <= self.update:
                return version.terms
        return ()

    def _rows_on(
        self, values: _Values, field: str, key: str | None, keys: Sequence[str], columns: Columns
    ) -> tuple[list[int], list[str]]:
        """Rows of a field whose value may be on a list, ascending, and these values."""
        if field == key:
            rows = values.rows_of(keys)
            return rows, [keys[row] for row in rows]
        if isinstance(columns, CodedColumns) and (coded := columns.coded(field)) is not None:
            indices, table = coded
            on_list = self._levels_on(values, field, table)
            if not on_list:
                return [], []
            flags = np.zeros(len(table), np.bool_)
            flags[on_list] = True
            rows = np.flatnonzero(flags[indices]).tolist()
            return rows, [table.levels[index] for index in indices[rows].tolist()]
        column = columns.get(field)
        if column is None or column.dtype != object:
            return [], []
        texts = column.tolist()
        rows = [row for row, text in enumerate(texts) if text in values.versions]
        return rows, [texts[row] for row in rows]

    def _levels_on(self, values: _Values, field: str, table: LevelTable) -> list[int]:
        """Indices of the levels that may be on a list."""
        n = len(table)
        done, found = self._levels.get((field, table), (0, []))
        if done < n:
            more = enumerate(islice(table.levels, done, n), done)
            found = [*found, *(index for index, level in more if level in values.versions)]
            if len(self._levels) >= MAX_KEPT_TABLES:
                self._levels.clear()
            self._levels[field, table] = n, found
        return found

    def _copied_table(self) -> _Table:
        """A table of what this state reads: it is the first of a history of its own."""
        table = _Table()
        for field, value, terms in self.entries():
            versions = table.fields.setdefault(field, _Values()).versions
            before = versions[value][0].terms if value in versions else ()
            versions[value] = (_Version(0, (*before, terms)),)
        for values in table.fields.values():
            values.add_to_filter(())
        return table


def _by_versions(
    values: _Values, rows: Sequence[int], texts: Sequence[str]
) -> Iterable[tuple[Sequence[_Version], list[int]]]:
    """The rows of each value's versions. Values of one import share them."""
    groups: dict[int, tuple[Sequence[_Version], list[int]]] = {}
    for row, versions in zip(rows, map(values.versions.get, texts), strict=True):
        if versions is None:  # dropped meanwhile: this state does not read it
            continue
        if (group := groups.get(id(versions))) is None:
            groups[id(versions)] = versions, [row]
        else:
            group[1].append(row)
    return groups.values()


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
