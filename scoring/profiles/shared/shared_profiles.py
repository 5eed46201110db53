"""Profiles that all input partitions share: closed tiles of entities other than the key, and labels.

Tiles and labels are added as they come; `values` reads them for transactions. Rows are merged and dropped by the newest
event time that `values` has seen, or that `advance` gives, so that what a batch of any length adds is still there when
its own transactions read it.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import numpy as np

from schemas.dataset.profiles import LABEL_AGGREGATES, LAST_LABEL_AGGREGATES, Profile
from scoring.arrays import Array, Flags, Hashes, Indices, Ints, Matrix
from scoring.compilation import compiled
from scoring.profiles.aggregate_rows import AGGREGATE_CODES, TIME, accumulate, aggregate, clear_row
from scoring.profiles.aggregates import fraud_rate
from scoring.profiles.profile_inputs import ProfileInputs
from scoring.profiles.profile_plan import ProfilePlan
from scoring.profiles.shared import label_store
from scoring.profiles.shared.entity_rows import ROWS_END, EntityRows
from scoring.profiles.shared.label_store import FOREVER_MS, LabelInputs, LabelStore, read_labels
from scoring.profiles.shared.open_tiles import ClosedTiles, tile_fields
from scoring.profiles.shared.tile_store import SLACK_MS, TileStore, add_windows, tile_levels
from scoring.profiles.windows import NO_TIME_MS, tile_ms

COMPACT_GROWTH = 1.5  # rows since the last compaction
MIN_COMPACT_ROWS = 65_536
LABEL_CODES = {name: code for code, name in enumerate((*LABEL_AGGREGATES, *LAST_LABEL_AGGREGATES))}
_LABELLED, _FRAUDS, _RATE, _IN_ROW, _LAST, _SINCE_FRAUD = range(6)


class SharedCounts(NamedTuple):
    """Size of the store, and what happened since the process started."""

    entities: int
    rows: int
    n_bytes: int
    expired_labels: int  # of transactions before all windows
    approximate_labels: int  # of transactions whose row may be merged
    merged_labels: int  # labels of busy entities that count by tile
    incomplete: int  # transactions whose features lack tiles of a partition
    old: int  # transactions so far behind that tiles may be merged or dropped; incomplete, too


class Columns(NamedTuple):
    """What the loops need of a profile."""

    windows_ms: Ints  # ascending
    tails_grain_ms: Ints  # by window
    features: Ints  # shape (n_features, 3): aggregate, position of the window, position of the field in the rows
    values: Indices  # by feature: column of `ProfileInputs.values`, 0 if the aggregate has no field
    columns: Indices  # by feature: column of the result


class SharedProfiles:
    """Closed tiles and labels, by entity."""

    def __init__(self, plan: ProfilePlan, lock: AbstractContextManager[Any] | None = None) -> None:
        """lock: for callers that add in one thread and read in another."""
        self._plan = plan
        self._lock = nullcontext() if lock is None else lock
        self._now_ms = NO_TIME_MS
        self._tiles: dict[int, TileStore] = {}
        self._labels: dict[int, LabelStore] = {}
        self._columns: dict[int, Columns] = {}
        self._closed_until: dict[tuple[int, int], int] = {}  # by profile and partition
        self._compacted_rows = MIN_COMPACT_ROWS
        self._incomplete = self._old = 0
        column = 0
        for i, profile in enumerate(plan.profiles):
            if profile.kind == "key":
                continue
            self._columns[i] = _columns(plan, profile, column)
            column += len(profile.features)
            if profile.kind == "tiles":
                levels = tile_levels(profile.windows_ms, profile.lag_ms)
                self._tiles[i] = TileStore(len(tile_fields(plan, profile)), levels)
            else:
                self._labels[i] = LabelStore(tile_levels(profile.windows_ms), profile.label_delay_ms)
        self._n_columns = column

    @property
    def counts(self) -> SharedCounts:
        """Size of the store, and counts since the process started."""
        with self._lock:
            stores = self._stores
            labels = sum((store.totals for store in self._labels.values()), np.zeros(3, np.int64))
            return SharedCounts(
                entities=sum(store.n_entities for store in stores),
                rows=sum(store.n_rows for store in stores),
                n_bytes=sum(store.n_bytes for store in stores),
                expired_labels=int(labels[label_store.EXPIRED]),
                approximate_labels=int(labels[label_store.APPROXIMATE]),
                merged_labels=int(labels[label_store.MERGED]),
                incomplete=self._incomplete,
                old=self._old,
            )

    def closed_until(self, profile: int, partition: int) -> int:
        """The time up to which a partition's tiles are added; NO_TIME_MS before the first."""
        return self._closed_until.get((profile, partition), NO_TIME_MS)

    def add_tiles(self, partition: int, tiles: ClosedTiles) -> None:
        """Add the tiles that a partition closed. Tiles that were added before are skipped, also one by one."""
        with self._lock:
            until = self.closed_until(tiles.profile, partition)
            if tiles.until_ms <= until:
                return
            new = tiles.rows[:, TIME] > until
            self._tiles[tiles.profile].add(tiles.entities[new], np.ascontiguousarray(tiles.rows[new]), self._now_ms)
            self._closed_until[tiles.profile, partition] = tiles.until_ms

    def add_labels(self, labels: LabelInputs) -> None:
        """Add labels, in the order of their log."""
        with self._lock:
            for i, store in self._labels.items():
                store.add(labels.entities[self._plan.profiles[i].entity], labels, self._now_ms)

    def advance(self, now_ms: int) -> None:
        """Let rows be merged and dropped that transactions from a time on do not read."""
        with self._lock:
            self._advance(now_ms)

    def values(self, inputs: ProfileInputs, partitions: Sequence[int]) -> tuple[Matrix, Flags]:
        """Features of transactions, and which of them have the tiles of all partitions.

        partitions: all partitions of the input. Returns shape (n, n_features of kinds tiles and labels) in the order of
        the declaration, and shape (n,).
        """
        times = inputs.event_time_ms
        n = len(times)
        matrix = np.empty((n, self._n_columns), np.float32)
        with self._lock:
            recent = times >= self._now_ms - SLACK_MS
            complete = recent.copy()
            for i, columns in self._columns.items():
                profile, entities = self._plan.profiles[i], inputs.entities[self._plan.profiles[i].entity]
                if profile.kind == "tiles":
                    grain = tile_ms(profile.windows_ms[0])
                    limits = (times - profile.lag_ms) // grain * grain
                    store = self._tiles[i].rows
                    fill_tile_features(store, columns, entities, times, limits, inputs.values, matrix)
                    until = min((self.closed_until(i, p) for p in partitions), default=NO_TIME_MS)
                    complete &= limits <= until
                else:
                    delay, rate = profile.label_delay_ms, profile.base_rate
                    fill_label_features(self._labels[i].rows, columns, entities, times, delay, rate, matrix)
            self._incomplete += n - int(complete.sum())
            self._old += n - int(recent.sum())
            if n:
                self._advance(int(times.max()))
        return matrix, complete

    def _advance(self, now_ms: int) -> None:
        self._now_ms = max(self._now_ms, now_ms)
        if self._used_rows() >= COMPACT_GROWTH * self._compacted_rows:
            self._compact()
            self._compacted_rows = max(MIN_COMPACT_ROWS, self._used_rows())

    def compact(self) -> None:
        """Merge and drop rows now, however few there are."""
        with self._lock:
            self._compact()

    def _compact(self) -> None:
        for store in self._stores:
            store.compact(self._now_ms)

    @property
    def _stores(self) -> list[TileStore | LabelStore]:
        return [*self._tiles.values(), *self._labels.values()]

    def _used_rows(self) -> int:
        return sum(int(store.rows.state[ROWS_END]) for store in self._stores)


def _columns(plan: ProfilePlan, profile: Profile, first: int) -> Columns:
    fields = tile_fields(plan, profile).tolist() if profile.kind == "tiles" else []
    codes = AGGREGATE_CODES if profile.kind == "tiles" else LABEL_CODES
    features, values = [], []
    for feature in profile.features:
        window = profile.windows_ms.index(profile.horizon_ms if feature.window_ms is None else feature.window_ms)
        field = 0 if feature.field is None else plan.number_fields.index(feature.field)
        features.append((codes[feature.aggregate], window, fields.index(field) if feature.field else 0))
        values.append(field)
    return Columns(
        windows_ms=np.array(profile.windows_ms, np.int64),
        tails_grain_ms=np.array([tile_ms(w) for w in profile.windows_ms], np.int64),
        features=np.array(features, np.int64).reshape(-1, 3),
        values=np.array(values, np.intp),
        columns=np.arange(first, first + len(features)),
    )


@compiled
def fill_tile_features(
    store: EntityRows,
    columns: Columns,
    entities: Hashes,
    times_ms: Ints,
    limits_ms: Ints,
    values: Array,
    matrix: Matrix,
) -> None:
    """Fill in the features of a profile of tiles. values: `ProfileInputs.values`."""
    n_windows = len(columns.windows_ms)
    windows = np.empty((n_windows, store.rows.shape[1]), np.int64)
    tails = np.empty(n_windows, np.int64)
    for i in range(len(times_ms)):
        if entities[i] == 0:
            for f in range(len(columns.features)):
                matrix[i, columns.columns[f]] = np.nan
            continue
        for w in range(n_windows):
            clear_row(windows[w])
            grain = columns.tails_grain_ms[w]
            tails[w] = (times_ms[i] - columns.windows_ms[w]) // grain * grain
        add_windows(store, entities[i], limits_ms[i], tails, windows)
        accumulate(windows)
        for f in range(len(columns.features)):
            code, window, field = columns.features[f]
            value = np.float64(values[i, columns.values[f]]) if values.shape[1] > 0 else 0.0
            matrix[i, columns.columns[f]] = np.float32(aggregate(code, windows[window], field, value))


@compiled
def fill_label_features(
    store: EntityRows,
    columns: Columns,
    entities: Hashes,
    times_ms: Ints,
    delay_ms: int,
    base_rate: float,
    matrix: Matrix,
) -> None:
    """Fill in the features of a profile of labels."""
    n_windows = len(columns.windows_ms)
    tails, labelled = np.empty(n_windows, np.int64), np.empty(n_windows, np.int64)
    frauds, last = np.empty(n_windows, np.int64), np.empty(3, np.int64)
    for i in range(len(times_ms)):
        if entities[i] == 0:
            for f in range(len(columns.features)):
                matrix[i, columns.columns[f]] = np.nan
            continue
        head = times_ms[i] - delay_ms
        for w in range(n_windows):
            grain = columns.tails_grain_ms[w]
            tails[w] = (head - columns.windows_ms[w]) // grain * grain
        read_labels(store, entities[i], times_ms[i], head, tails, labelled, frauds, last)
        for f in range(len(columns.features)):
            code, window = columns.features[f, 0], columns.features[f, 1]
            if code == _LABELLED:
                value = float(labelled[window])
            elif code == _FRAUDS:
                value = float(frauds[window])
            elif code == _RATE:
                value = fraud_rate(labelled[window], frauds[window], base_rate)
            elif code == _IN_ROW:
                value = float(last[0])
            elif code == _LAST:
                value = float(last[1]) if last[1] >= 0 else np.nan
            else:
                value = (times_ms[i] - last[2]) / 1000.0 if last[2] > -FOREVER_MS else np.nan
            matrix[i, columns.columns[f]] = np.float32(value)
