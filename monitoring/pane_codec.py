"""Panes as they travel on `drift-panes`, and back: only the codes that occur, as two arrays of whole numbers."""

from collections.abc import Iterator, Sequence

import numpy as np

from monitoring.bins import FrozenBins
from monitoring.panes import Counted, Cursor, Pane
from schemas.events import PaneCounts, PaneSnapshot

MOST_BYTES = 1_500_000  # of counts in one record; twice that in base64 and JSON still fits into 4 MB


def to_records(
    counted: Counted, *, model: str, model_version: int, layout: str, topic_id: str = ""
) -> Iterator[tuple[bytes, PaneSnapshot]]:
    """Key and record of everything to publish, in this order; the last one is the cursor.

    Compaction keeps the last record of a key: closed minutes have keys of their own, the cursor overwrites the cursor.
    """
    cursor = counted.cursor

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
            topic_id=topic_id,
            panes=tuple(panes),
        )

    for panes in _parted([_packed(p) for p in counted.closed]):
        yield f"{layout}/{cursor.partition}/{panes[0].start_ms}".encode(), record(panes, False)
    yield f"{layout}/{cursor.partition}/cursor".encode(), record([_packed(p) for p in counted.open], True)


def cursor_of(record: PaneSnapshot) -> Cursor:
    """How far the partition was when the record was written."""
    return Cursor(
        partition=record.partition,
        last_offset=record.last_offset,
        watermark_ms=record.watermark_ms,
        late=record.late,
    )


def panes_of(record: PaneSnapshot, bins: FrozenBins) -> list[Pane]:
    """The record's panes. Empty when it counts other bins; raises ValueError when it is damaged."""
    if record.layout != bins.digest:
        return []
    return [_unpacked(p, record, bins) for p in record.panes]


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
        if part and grown > MOST_BYTES:
            yield part
            part, grown = [], 2 * len(pane.codes)
        part.append(pane)
        size = grown
    if part:
        yield part
