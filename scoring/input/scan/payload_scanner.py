"""Cleaning of the payloads of a data set by a compiled scan, with the results of the general path.

The scan resolves the usual tokens. A token that it does not know is parsed by the column parser of its field, and
learned. A row that the scan leaves, or in which a parser finds a fault, takes the general path as a whole.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np

from schemas.dataset.declaration import Dataset
from schemas.dataset.fields import DERIVED
from schemas.records import MAX_TIME_MS
from scoring.arrays import Array, Bytes, Flags, Floats, Ints
from scoring.coded_columns import CodedColumns, LevelTable
from scoring.input.cleaning import CleanedBatch, clean_any_payloads
from scoring.input.event_times import zone_to_utc
from scoring.input.payload_columns import Payloads
from scoring.input.record_times import RecordTimes
from scoring.input.scan.json_tokens import OPEN_BRACE
from scoring.input.scan.row_scan import scan_rows
from scoring.input.scan.scan_arrays import IDENTIFIER, MAX_POSITIONS, ScanBuffers, scan_buffers
from scoring.input.scan.scan_plan import scan_outputs, scan_plan
from scoring.input.scan.time_columns import derive_columns, set_event_times
from scoring.input.scan.token_tables import MAX_TOKENS, clear_table, empty_tables, learn_tokens
from scoring.input.text_parsing import parse_identifiers

MAX_LEVELS = 2 * MAX_TOKENS  # of a category; its table is then emptied
MAX_KEPT_ROWS = 4_096  # of buffers that are used again
_NO_TIMES = np.empty(0, np.int64)


@lru_cache(8)
def payload_scanner(dataset: Dataset) -> "SharedScanner":
    """The scanner of a data set, one for all threads."""
    return SharedScanner(dataset)


class SharedScanner:
    """Cleans the payloads of one data set in any thread: each call has a scanner to itself."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._idle: list[PayloadScanner] = []

    def clean(self, payloads: Payloads, max_payload_bytes: int, record_times: RecordTimes | None) -> CleanedBatch:
        """As `scoring.input.cleaning.clean_payloads`."""
        try:
            scanner = self._idle.pop()
        except IndexError:
            scanner = PayloadScanner(self._dataset)
        try:
            return scanner.clean(payloads, max_payload_bytes, record_times)
        finally:
            self._idle.append(scanner)


class PayloadScanner:
    """Cleans the payloads of one data set, in one thread at a time.

    What it has learned changes its speed, never its results.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._outputs = scan_outputs(dataset)
        self._plan = scan_plan(dataset, self._outputs)
        columns = [column for output in self._outputs for column in output.columns]
        self._n_columns = len(columns) + len(DERIVED)
        names = [*(column.name for column in columns), *DERIVED]
        self._rows = {name: row for row, name in enumerate(names)}
        entries = [entry for field in dataset.fields for entry in (field.entries or (field,))]
        kinds = {entry.name: entry.kind for entry in entries} | DERIVED
        self._names = tuple(kinds)
        self._categories = [(name, self._rows[name]) for name, kind in kinds.items() if kind == "category"]
        self._category_rows = np.array([row for _, row in self._categories], np.intp)
        self._number_rows = {name: self._rows[name] for name, kind in kinds.items() if kind != "category"}
        # The key may also be the transaction id.
        self._roles = [name for name in (dataset.key, dataset.transaction_id) if name is not None]
        self._tables = empty_tables(len(self._outputs), len(columns))
        self._order = np.zeros(MAX_POSITIONS, np.int64)
        self._levels = {row: LevelTable() for _, row in self._categories}
        self._kept = scan_buffers(0, len(self._outputs), len(self._roles), len(dataset.field_names))
        self._full: set[int] = set()  # outputs to be emptied before the next batch

    def clean(self, payloads: Payloads, max_payload_bytes: int, record_times: RecordTimes | None) -> CleanedBatch:
        """As `scoring.input.cleaning.clean_payloads`."""
        n = len(payloads)
        record_ms, max_ahead_ms = _NO_TIMES, 0
        if record_times is not None:
            record_ms, max_ahead_ms = np.ascontiguousarray(record_times.ms, np.int64), record_times.max_ahead_ms
        for output in self._full:
            self._clear(output)
        self._full.clear()
        out = self._buffers(n)
        misses, ids = self._scan(payloads, max_payload_bytes, out)
        every = set_event_times(self._plan, out, record_ms, max_ahead_ms)
        if not self._plan.is_utc:
            self._resolve_zone(out)
            every = derive_columns(self._plan, out, record_ms, max_ahead_ms)
        if every:
            return self._batch(np.arange(n), out.values, out.event_time_ms, [texts[:n] for texts in ids])
        others = np.flatnonzero(~out.fast)
        general = clean_any_payloads(
            self._dataset,
            payloads.at(others),
            read_labels=False,
            max_payload_bytes=max_payload_bytes,
            record_times=None if record_times is None else RecordTimes(record_ms[others], max_ahead_ms),
        )
        accepted = others[general.rows]
        if len(accepted):
            out.values[:, accepted] = self._general_values(general)
            out.event_time_ms[accepted] = general.event_time_ms
            for texts, own in zip(ids, self._general_ids(general), strict=True):
                for row, text in zip(accepted.tolist(), own, strict=True):
                    texts[row] = text
            self._learn_nested(payloads.buffer, misses, accepted, out.values)
        out.fast[accepted] = True
        rows = np.flatnonzero(out.fast)
        kept = [[texts[row] for row in rows.tolist()] for texts in ids]
        batch = self._batch(rows, out.values[:, rows], out.event_time_ms[rows], kept)
        rejections = [msgspec.structs.replace(r, row=int(others[r.row])) for r in general.rejections]
        return batch._replace(n=n, rejections=rejections)

    def _buffers(self, n: int) -> ScanBuffers:
        """Buffers for n rows: new ones for what is returned; the others are kept, unless they are large."""
        kept = self._kept
        if n * len(self._outputs) > len(kept.misses):
            kept = scan_buffers(n, len(self._outputs), len(self._roles), len(self._dataset.field_names))
            if n <= MAX_KEPT_ROWS:
                self._kept = kept
        kept.id_ends[:] = 0
        return kept._replace(
            fast=np.empty(n, np.bool_), values=np.empty((self._n_columns, n)), event_time_ms=np.empty(n, np.int64)
        )

    def _scan(self, payloads: Payloads, max_bytes: int, out: ScanBuffers) -> tuple[Ints, list[list[Any]]]:
        """All misses, and the texts of each identifier by row; empty or None without one."""
        places = payloads.buffer, payloads.starts, payloads.ends
        scan_rows(*places, max_bytes, self._plan, self._tables, self._order, out)
        ids: list[list[Any]] = [
            out.id_text[k, :end].tobytes().decode().split("\n") for k, end in enumerate(out.id_ends.tolist())
        ]
        misses = out.misses[: out.n_misses[0]]
        if len(misses):
            usual = misses[out.fast[misses[:, 1]]]
            for output in np.unique(usual[:, 0]).tolist():
                rows, starts, ends = usual[usual[:, 0] == output, 1:].T.copy()
                values, known = _decode_tokens(payloads.buffer, starts, ends)
                if self._outputs[output].kind == IDENTIFIER:
                    self._set_ids(output, rows, values, known, ids)
                else:
                    self._set_values(output, payloads.buffer, (rows, starts, ends), values, known, out)
                out.fast[rows[~known]] = False
        return misses, ids

    def _set_ids(self, output: int, rows: Ints, values: list[Any], known: Flags, ids: list[list[Any]]) -> None:
        texts, faults = parse_identifiers(values, frozenset(self._dataset.missing))
        known[list(faults)] = False
        own = ids[self._plan.places[output]]
        for i, (row, text) in enumerate(zip(rows.tolist(), texts, strict=True)):
            own[row] = text
            if text is None and not self._outputs[output].null_ok:
                known[i] = False

    def _set_values(
        self,
        output: int,
        buffer: Bytes,
        places: tuple[Ints, Ints, Ints],
        values: list[Any],
        known: Flags,
        out: ScanBuffers,
    ) -> None:
        """Parse the tokens of an output that the scan does not know, and learn them. known: False for each fault."""
        rows, starts, ends = places
        columns, faults = self._outputs[output].parse(values)
        known[list(faults)] = False
        first = int(self._plan.column_ends[output])
        results = np.stack([self._numbers(first + c, column) for c, column in enumerate(columns)])
        out.values[first : first + len(columns), rows] = results
        self._learn(output, buffer, starts, ends, results, known)

    def _numbers(self, row: int, column: Array) -> Floats:
        """A column as numbers: the indices of the levels of a category."""
        levels = self._levels.get(row)
        if levels is None:
            return column.astype(np.float64)
        return np.array([levels.add(level) for level in column.tolist()], np.float64)

    def _learn(self, output: int, buffer: Bytes, starts: Ints, ends: Ints, results: Floats, known: Flags) -> None:
        first = int(self._plan.column_ends[output])
        is_full = learn_tokens(self._tables, output, first, buffer, starts, ends, results, known)
        sizes = [len(self._levels[first + c]) for c in range(len(results)) if first + c in self._levels]
        if is_full or max(sizes, default=0) > MAX_LEVELS:
            self._full.add(output)

    def _learn_nested(self, buffer: Bytes, misses: Ints, accepted: Ints, values: Floats) -> None:
        """Learn the objects of rows that the general path has accepted."""
        nested = misses[(buffer[misses[:, 2]] == OPEN_BRACE) & np.isin(misses[:, 1], accepted)]
        for output in np.unique(nested[:, 0]).tolist():
            rows, starts, ends = nested[nested[:, 0] == output, 1:].T.copy()
            columns = slice(self._plan.column_ends[output], self._plan.column_ends[output + 1])
            self._learn(output, buffer, starts, ends, values[columns, rows].copy(), np.ones(len(rows), np.bool_))

    def _clear(self, output: int) -> None:
        clear_table(self._tables, output)
        for row in range(self._plan.column_ends[output], self._plan.column_ends[output + 1]):
            if row in self._levels:  # batches that were returned keep the old table
                self._levels[row] = LevelTable()

    def _resolve_zone(self, out: ScanBuffers) -> None:
        rows, at = np.flatnonzero(out.fast), self._plan.time_column
        is_date = out.values[at + 2, rows] != 0
        offset_ms = out.values[at + 1, rows].astype(np.int64)
        form = self._dataset.time_format
        utc_ms, faults = zone_to_utc(out.event_time_ms[rows], offset_ms, is_date, [None] * len(rows), form)
        out.event_time_ms[rows] = utc_ms
        out.fast[rows[(utc_ms < 0) | (utc_ms >= MAX_TIME_MS)]] = False
        out.fast[rows[list(faults)]] = False

    def _general_values(self, general: CleanedBatch) -> Floats:
        values = np.zeros((self._n_columns, len(general.rows)))
        for name, column in general.columns.items():
            values[self._rows[name]] = self._numbers(self._rows[name], column)
        return values

    def _general_ids(self, general: CleanedBatch) -> list[Sequence[str | None]]:
        return [general.keys if name == self._dataset.key else general.transaction_ids for name in self._roles]

    def _batch(self, rows: Ints, values: Floats, event_time_ms: Ints, ids: list[list[Any]]) -> CleanedBatch:
        by_role: dict[str | None, list[Any]] = dict(zip(self._roles, ids, strict=True))
        none = [None] * len(rows)
        indices = values[self._category_rows].astype(np.intp)
        return CleanedBatch(
            n=len(rows),
            rows=rows,
            columns=CodedColumns(
                self._names,
                {name: values[row] for name, row in self._number_rows.items()},
                {name: (indices[k], self._levels[row]) for k, (name, row) in enumerate(self._categories)},
            ),
            event_time_ms=event_time_ms,
            keys=by_role.get(self._dataset.key, []),
            transaction_ids=[text or None for text in by_role.get(self._dataset.transaction_id, none)],
            labels=None,
            rejections=[],
        )


def _decode_tokens(buffer: Bytes, starts: Ints, ends: Ints) -> tuple[list[Any], Flags]:
    """The raw values of tokens, None for each that is no JSON, and the mask of those that are."""
    whole = buffer.data
    tokens = [bytes(whole[start:end]) for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
    known = np.ones(len(tokens), np.bool_)
    try:
        return msgspec.json.decode(b"[" + b",".join(tokens) + b"]"), known
    except (msgspec.MsgspecError, ValueError):
        values: list[Any] = []
        for i, token in enumerate(tokens):
            try:
                values.append(msgspec.json.decode(token))
            except (msgspec.MsgspecError, ValueError):
                values.append(None)
                known[i] = False
        return values, known
