"""Counts scored transactions into panes, one fold per input partition, and resumes where another worker stopped.

The fold is `monitoring.counting.panes`. Its state is written to `drift-panes`, to the partition of the same number,
with each commit, and is acknowledged before the offsets it covers are committed. So the last cursor is never behind
the committed offset. A worker that is assigned a partition restores the fold from that cursor.

Rows are kept until the commit and then counted at once: a fold over a partition does not depend on how its rows are
divided into batches.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from itertools import groupby
from typing import NamedTuple, Protocol

import msgspec
import numpy as np

from monitoring.counting.monitored_model import MonitoredModel
from monitoring.counting.pane_codec import cursor_of, held_of, panes_of, to_records
from monitoring.counting.panes import Cursor, PartitionCounts, PartitionPanes
from schemas.records import PaneSnapshot, VersionMark
from scoring.arrays import Indices, Ints
from stream_app.decisions.handler import CountedCodes
from stream_app.kafka.batches.record_columns import record_places
from stream_app.output.outgoing_records import OutgoingRecord, OutgoingRecords
from stream_app.worker.pane_cursors import Cursors
from stream_app.worker.worker_metrics import WorkerMetrics

log = logging.getLogger("tamiz.drift")
MAX_OTHER_VERSIONS = 8  # model versions per partition whose cursors are kept


class PartitionRecord(Protocol):
    """The fields of a consumed record that counting needs."""

    partition: int
    offset: int


class CountedRows(NamedTuple):
    """Rows of one batch that are not counted yet."""

    model: MonitoredModel
    partitions: Indices
    offsets: Ints
    coded: CountedCodes


class DriftCounter:
    """The folds of the assigned partitions, for the model in service."""

    def __init__(
        self,
        last_cursors: Callable[[set[int]], Awaitable[Cursors]],
        lateness_ms: int,
        *,
        metrics: WorkerMetrics | None = None,
    ) -> None:
        """last_cursors: reads the newest cursors of partitions, by model version. lateness_ms: allowed lateness."""
        self._last_cursors = last_cursors
        self._lateness_ms = lateness_ms
        self._metrics = metrics or WorkerMetrics()
        self._epoch: tuple[int, int] | None = None  # `stream_app.worker.publisher.Epoch` of all fields below
        self._cursors: Cursors = {}  # the newest ones, of other workers and of this one
        self._versions: tuple[int, ...] = ()  # the last two model versions that counted here
        self._folds: dict[tuple[int, int], PartitionPanes] = {}  # by model version and partition
        self._held: dict[int, int] = {}  # rows buffered in the fold of each partition
        self._pending: list[CountedRows] = []  # of this epoch, since the last commit

    async def acquire_partitions(self, partitions: set[int], epoch: tuple[int, int], model: MonitoredModel) -> None:
        """Restore the folds of partitions that are new in this epoch, or new for this model.

        Reads topics for new partitions only, never for a model swap, which must not delay decisions. The folds of the
        previous model version are kept, for a rollback within the minute; of earlier versions only the last cursor.
        """
        if self._epoch != epoch:
            self._epoch, self._cursors, self._versions, self._folds, self._held = epoch, {}, (), {}, {}
            self._pending = []
        if unknown := partitions - self._cursors.keys():
            self._cursors |= {p: {} for p in unknown} | await self._last_cursors(unknown)
        version = model.version
        if self._versions[-1:] != (version,):
            self._versions = (*self._versions[-1:], version)
            kept = {*self._versions, *(rows.model.version for rows in self._pending)}
            self._folds = {key: fold for key, fold in self._folds.items() if key[0] in kept}
        for partition in partitions:
            if (version, partition) not in self._folds:
                self._folds[version, partition] = self._restore_fold(partition, model)

    def _restore_fold(self, partition: int, model: MonitoredModel) -> PartitionPanes:
        cursor = self._cursors[partition].get(model.version)
        if cursor is not None and (cursor.model, cursor.layout) == (model.manifest.model, model.bins.digest):
            try:
                panes = [*panes_of(cursor, model.bins), *held_of(cursor, model.bins)]
                return PartitionPanes.restore(model.bins, cursor_of(cursor), panes, self._lateness_ms)
            except ValueError as error:  # damaged, or written by another program
                self._metrics.cursors_rejected.labels("damaged").inc()
                log.warning("partition %d: drift counting restarts, the cursor is invalid: %s", partition, error)
        return PartitionPanes(model.bins, partition, self._lateness_ms)

    @property
    def pending_rows(self) -> int:
        """Number of rows that `take_records` will count."""
        return sum(len(rows.partitions) for rows in self._pending)

    def count(self, records: Sequence[PartitionRecord], coded: CountedCodes, model: MonitoredModel) -> None:
        """Have a batch counted by the next `take_records`.

        records: in the order of `coded`, each partition's in offset order. `acquire_partitions` must have been called
        for their partitions.
        """
        self._pending.append(CountedRows(model, *record_places(records), coded))

    def take_records(self, topic_id: str = "") -> OutgoingRecords:
        """Count all batches since the last call, and return the pane records to publish before their offsets are
        committed.

        topic_id: Kafka's id of the input topic.
        """
        pending, self._pending = self._pending, []
        outgoing: list[OutgoingRecord] = []
        # By model version, in the order in which they were in service: a later cursor names the earlier ones.
        for _, batches in groupby(pending, lambda rows: rows.model.version):
            outgoing += self._count(list(batches), topic_id)
        return OutgoingRecords.of(outgoing)

    def _count(self, batches: Sequence[CountedRows], topic_id: str) -> list[OutgoingRecord]:
        model = batches[0].model
        partitions = np.concatenate([rows.partitions for rows in batches])
        offsets = np.concatenate([rows.offsets for rows in batches])
        codes = np.concatenate([rows.coded.codes for rows in batches])
        times_ms = np.concatenate([rows.coded.event_times_ms for rows in batches])
        encode = msgspec.json.Encoder().encode
        outgoing = []
        for partition in np.unique(partitions).tolist():
            rows = np.flatnonzero(partitions == partition)
            fold = self._folds[model.version, partition]
            before = fold.cursor
            fold.update(codes[rows], times_ms[rows], offsets[rows])
            counted = fold.snapshot()
            self._update_metrics(before, counted)
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
            self._cursors[partition][model.version] = record
        return outgoing

    def _others(self, partition: int, model: MonitoredModel) -> list[VersionMark]:
        """Other model versions that counted the partition, most recent first. Drops all but `MAX_OTHER_VERSIONS`."""
        cursors = self._cursors[partition]
        others = sorted(
            (c for c in cursors.values() if c.model_version != model.version and c.model == model.manifest.model),
            key=lambda cursor: cursor.last_offset,
            reverse=True,
        )
        for dropped in others[MAX_OTHER_VERSIONS:]:
            del cursors[dropped.model_version]
        return [
            VersionMark(model_version=c.model_version, watermark_ms=c.watermark_ms) for c in others[:MAX_OTHER_VERSIONS]
        ]

    def _update_metrics(self, before: Cursor, counted: PartitionCounts) -> None:
        cursor, metrics = counted.cursor, self._metrics
        metrics.late_transactions.inc(cursor.late - before.late)
        metrics.dropped_transactions.inc(cursor.dropped - before.dropped)
        self._held[cursor.partition] = sum(pane.rows for pane in counted.held)
        metrics.buffered_transactions.set(sum(self._held.values()))
        if cursor.resets > before.resets:
            metrics.watermark_resets.inc(cursor.resets - before.resets)
            log.warning(
                "partition %d: watermark set back from %s to %s, because event times in the future had advanced it; "
                "%d transactions were late meanwhile",
                cursor.partition,
                _utc(before.watermark_ms),
                _utc(cursor.watermark_ms),
                cursor.late - before.late,
            )


def _utc(time_ms: int) -> str:
    return str(np.datetime_as_string(np.datetime64(time_ms, "ms"), unit="s", timezone="UTC"))
