"""Counting what was scored, minute by minute, and going on where another worker left off.

A partition's counting is a fold over its transactions (`monitoring.counting.panes`). Its state travels on
`drift-panes`, on the partition of the same number, and is acknowledged before the offsets it covers are committed: the
last cursor there is never behind the committed offset. Whoever is given a partition reads that cursor first.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import msgspec
import numpy as np

from monitoring.counting.monitored_model import MonitoredModel
from monitoring.counting.pane_codec import cursor_of, held_of, panes_of, to_records
from monitoring.counting.panes import Cursor, PartitionCounts, PartitionPanes
from schemas.record_parts import last_offset
from schemas.records import PaneSnapshot, VersionMark
from stream_app.decisions.handler import CountedCodes, OutgoingRecord
from stream_app.worker.pane_cursors import Cursors
from stream_app.worker.worker_metrics import WorkerMetrics

log = logging.getLogger("tamiz.drift")
MAX_OTHER_VERSIONS = 8  # whose cursors are kept for each partition


class PartitionRecord(Protocol):
    """A consumed record, as far as counting looks at it."""

    partition: int
    offset: int


class DriftCounter:
    """The folds of the partitions that this worker reads, for the model that decides now."""

    def __init__(
        self,
        last_cursors: Callable[[set[int]], Awaitable[Cursors]],
        lateness_ms: int,
        *,
        metrics: WorkerMetrics | None = None,
    ) -> None:
        """last_cursors: of some partitions, of every model version that lately counted them."""
        self._last_cursors = last_cursors
        self._grace_ms = lateness_ms
        self._metrics = metrics or WorkerMetrics()
        self._epoch: tuple[int, int] | None = None  # `stream_app.worker.publisher.Epoch`; all below is of it
        self._left: Cursors = {}  # where others left off, and where we did
        self._versions: tuple[int, ...] = ()  # that counted here, the last two
        self._folds: dict[tuple[int, int], PartitionPanes] = {}  # by model version and partition
        self._held: dict[int, int] = {}  # rows that the fold of each partition holds

    async def acquire_partitions(self, partitions: set[int], epoch: tuple[int, int], model: MonitoredModel) -> None:
        """Make sure that every partition is counted from where it was left.

        Topics are read for partitions that are new here, and not when another model takes over: nothing may wait then.
        What the one before counted is kept, for it may be called back within the minute; of those before it the last
        cursor is.
        """
        if self._epoch != epoch:
            self._epoch, self._left, self._versions, self._folds, self._held = epoch, {}, (), {}, {}
        if unknown := partitions - self._left.keys():
            self._left |= {p: {} for p in unknown} | await self._last_cursors(unknown)
        version = model.version
        if self._versions[-1:] != (version,):
            self._versions = (*self._versions[-1:], version)
            self._folds = {key: fold for key, fold in self._folds.items() if key[0] in self._versions}
        for partition in partitions:
            if (version, partition) not in self._folds:
                self._folds[version, partition] = self._taken_up(partition, model)

    def _taken_up(self, partition: int, model: MonitoredModel) -> PartitionPanes:
        left = self._left[partition].get(model.version)
        if left is not None and (left.model, left.layout) == (model.manifest.model, model.bins.digest):
            try:
                panes = [*panes_of(left, model.bins), *held_of(left, model.bins)]
                return PartitionPanes.restore(model.bins, cursor_of(left), panes, self._grace_ms)
            except ValueError as error:  # not of our making
                self._metrics.cursors_rejected.labels("damaged").inc()
                log.warning("partition %d is counted anew: %s", partition, error)
        return PartitionPanes(model.bins, partition, self._grace_ms)

    def count(
        self, records: Sequence[PartitionRecord], coded: CountedCodes, model: MonitoredModel, topic_id: str = ""
    ) -> list[OutgoingRecord]:
        """Count a batch that is about to be committed; what must be published before.

        records: in the order of `coded`, each partition's in offset order; `take_over` was told of their partitions.
        """
        partitions = np.array([r.partition for r in records])
        offsets = np.array([last_offset(r) for r in records])
        encode = msgspec.json.Encoder().encode
        outgoing = []
        for partition in np.unique(partitions).tolist():
            mine = np.flatnonzero(partitions == partition)
            fold = self._folds[model.version, partition]
            before = fold.cursor
            fold.update(coded.codes[mine], coded.event_times_ms[mine], offsets[mine])
            counted = fold.snapshot()
            self._measure(before, counted)
            record: PaneSnapshot | None = None
            for key, record in to_records(
                counted,
                model=model.manifest.model,
                model_version=model.version,
                layout=model.bins.digest,
                others=self._others(partition, model),
                topic_id=topic_id,
            ):
                outgoing.append(OutgoingRecord(partition, key, encode(record), []))
            assert record is not None  # the last one is the cursor
            self._left[partition][model.version] = record
        return outgoing

    def _others(self, partition: int, model: MonitoredModel) -> list[VersionMark]:
        """Who else counted the partition, the last first; who did so longest ago is forgotten."""
        left = self._left[partition]
        others = sorted(
            (c for c in left.values() if c.model_version != model.version and c.model == model.manifest.model),
            key=lambda cursor: cursor.last_offset,
            reverse=True,
        )
        for forgotten in others[MAX_OTHER_VERSIONS:]:
            del left[forgotten.model_version]
        return [
            VersionMark(model_version=c.model_version, watermark_ms=c.watermark_ms) for c in others[:MAX_OTHER_VERSIONS]
        ]

    def _measure(self, before: Cursor, counted: PartitionCounts) -> None:
        cursor, metrics = counted.cursor, self._metrics
        metrics.late_transactions.inc(cursor.late - before.late)
        metrics.dropped_transactions.inc(cursor.dropped - before.dropped)
        self._held[cursor.partition] = sum(pane.rows for pane in counted.held)
        metrics.buffered_transactions.set(sum(self._held.values()))
        if cursor.resets > before.resets:
            metrics.watermark_resets.inc(cursor.resets - before.resets)
            log.warning(
                "partition %d: its watermark fell back from %s to %s; records dated in the future had carried it away, "
                "and %d transactions were late meanwhile",
                cursor.partition,
                _utc(before.watermark_ms),
                _utc(cursor.watermark_ms),
                cursor.late - before.late,
            )


def _utc(time_ms: int) -> str:
    return str(np.datetime_as_string(np.datetime64(time_ms, "ms"), unit="s", timezone="UTC"))
