"""Conversion of panes to records of `drift-panes` and back: only codes that occur, as two arrays of integers."""

from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

from monitoring.counting.bins import FrozenBins
from monitoring.counting.panes import Cursor, Pane, PartitionCounts
from monitoring.counting.watermark import NO_TIME_MS, RESET_ROWS, WINDOW_ROWS, Watermark
from schemas.records import PaneCounts, PaneSnapshot, VersionMark, WatermarkState

MAX_BYTES = 1_500_000  # of counts per record; in base64 and JSON less than 4 MB


def to_records(
    counted: PartitionCounts,
    *,
    model: str,
    model_version: int,
    layout: str,
    others: Sequence[VersionMark] = (),
    topic_id: str = "",
) -> Iterator[tuple[bytes, PaneSnapshot]]:
    """Keys and records to publish, in this order; the last one is the cursor.

    others, topic_id: as in `PaneSnapshot`. Compaction keeps the last record of a key: each closed minute has its own
    key, a cursor replaces the previous cursor, and model versions have different keys.
    """
    cursor = counted.cursor
    prefix = f"{model}/{model_version}/{layout}/{cursor.partition}"

    def record(panes: Sequence[PaneCounts], open_: bool) -> PaneSnapshot:
        return PaneSnapshot(
            model=model,
            model_version=model_version,
            layout=layout,
            partition=cursor.partition,
            last_offset=cursor.last_offset,
            watermark_ms=cursor.watermark_ms,
            late=cursor.late,
            open=open_,
            panes=tuple(panes),
            topic_id=topic_id,
        )

    for panes in _parted([_packed(p) for p in counted.closed]):
        yield f"{prefix}/{panes[0].start_ms}".encode(), record(panes, False)
    yield (
        f"{prefix}/cursor".encode(),
        msgspec.structs.replace(
            record([_packed(p) for p in counted.open], True),
            held=tuple(_packed(p) for p in counted.held),
            dropped=cursor.dropped,
            state=_packed_state(cursor.state),
            others=tuple(others),
        ),
    )


def cursor_of(record: PaneSnapshot) -> Cursor:
    """Counting progress of the partition at the time of the record. Raises ValueError if the record is damaged."""
    return Cursor(
        partition=record.partition,
        last_offset=record.last_offset,
        watermark_ms=record.watermark_ms,
        late=record.late,
        dropped=record.dropped,
        state=_unpacked_state(record),
    )


def panes_of(record: PaneSnapshot, bins: FrozenBins) -> list[Pane]:
    """Panes of a record; empty if it counts other bins. Raises ValueError if the record is damaged."""
    if record.layout != bins.digest:
        return []
    return [_unpacked(p, record, bins) for p in record.panes]


def held_of(record: PaneSnapshot, bins: FrozenBins) -> list[Pane]:
    """Panes ahead of the watermark in a cursor, as `panes_of`."""
    return panes_of(msgspec.structs.replace(record, panes=record.held), bins)


def _packed_state(state: Watermark) -> WatermarkState:
    return WatermarkState(
        confirmed_ms=state.confirmed_ms,
        recent_ms=state.recent_ms,
        since_ms=state.since_ms,
        closed=state.closed,
        gap_ms=state.gap_ms,
        resets=state.resets,
    )


def _unpacked_state(record: PaneSnapshot) -> Watermark:
    state = record.state
    if state is None or record.watermark_ms == NO_TIME_MS:
        return Watermark()
    damaged = (
        len(state.recent_ms) != WINDOW_ROWS - 1
        or len(state.gap_ms) >= RESET_ROWS
        or not 0 <= state.confirmed_ms <= record.watermark_ms
    )
    if damaged:
        raise ValueError(
            f"cursor of partition {record.partition} at offset {record.last_offset}: its watermark state is damaged"
        )
    return Watermark(time_ms=record.watermark_ms, **msgspec.structs.asdict(state))


def _packed(pane: Pane) -> PaneCounts:
    codes = np.flatnonzero(pane.counts)
    return PaneCounts(
        start_ms=pane.start_ms,
        rows=pane.rows,
        first_offset=pane.first_offset,
        last_offset=pane.last_offset,
        codes=codes.astype("<u4").tobytes(),
        counts=pane.counts[codes].astype("<u4").tobytes(),
    )


def _unpacked(pane: PaneCounts, record: PaneSnapshot, bins: FrozenBins) -> Pane:
    codes, seen = np.frombuffer(pane.codes, "<u4"), np.frombuffer(pane.counts, "<u4")
    if (
        len(codes) != len(seen)
        or (len(codes) and codes.max() >= bins.n_codes)
        or (np.diff(codes.astype(int)) <= 0).any()
    ):
        raise ValueError(
            f"pane {pane.start_ms} of partition {record.partition}: its codes are not those of {bins.digest}"
        )
    counts = np.zeros(bins.n_codes, dtype=np.int64)
    counts[codes] = seen
    if np.add.reduceat(counts, bins.offsets[:-1]).max(initial=0) > pane.rows:
        raise ValueError(
            f"pane {pane.start_ms} of partition {record.partition}: a feature is counted more often than its "
            f"{pane.rows} rows"
        )
    return Pane(
        start_ms=pane.start_ms,
        partition=record.partition,
        counts=counts,
        rows=pane.rows,
        first_offset=pane.first_offset,
        last_offset=pane.last_offset,
        layout=record.layout,
    )


def _parted(panes: Sequence[PaneCounts]) -> Iterator[list[PaneCounts]]:
    part: list[PaneCounts] = []
    size = 0
    for pane in panes:
        grown = size + 2 * len(pane.codes)
        if part and grown > MAX_BYTES:
            yield part
            part, grown = [], 2 * len(pane.codes)
        part.append(pane)
        size = grown
    if part:
        yield part
