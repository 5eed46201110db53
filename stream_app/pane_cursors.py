"""The cursors that workers left on `drift-panes`, read back from its ends.

A cursor is the last record of each batch, and what fills the offsets between two of them is unbounded: closed minutes,
markers of transactions, attempts that were aborted, records of others. So the search goes back in doubling steps, until
each partition's newest cursor is found and those that it names, or the topic's beginning is reached.
"""

import logging
from collections.abc import Callable
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from schemas.events import PaneSnapshot
from schemas.topics import MAX_RECORD_BYTES
from schemas.wire import decode
from stream_app.clients import arguments
from stream_app.worker_metrics import WorkerMetrics

log = logging.getLogger("tamiz.drift")

FIRST_LOOKBACK_RECORDS = 200
# A version whose watermark lies further behind the newest one's has no minute left that rows could still fall into.
MAX_BEHIND_MS = 2 * 86_400_000

Cursors = dict[int, dict[int, PaneSnapshot]]  # by input partition, by model version


class CursorReader:
    """Reads the ends of `drift-panes`."""

    def __init__(
        self, bootstrap: str, topic: str, *, model: str, fits: Callable[[PaneSnapshot], bool], metrics: WorkerMetrics
    ) -> None:
        """fits: whether a cursor can be true of its log; one that cannot is passed over, and hides no other."""
        self._bootstrap = bootstrap
        self._topic = topic
        self._model = model
        self._fits = fits
        self._metrics = metrics

    async def last_cursors(self, partitions: set[int]) -> Cursors:
        """The newest cursor of each of these input partitions, of every model version that lately counted it."""
        consumer = AIOKafkaConsumer(
            **arguments(self._bootstrap),
            group_id=None,
            enable_auto_commit=False,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            fetch_max_wait_ms=20,  # all is there already
            max_partition_fetch_bytes=2 * MAX_RECORD_BYTES,
        )
        try:
            await consumer.start()
            places = [TopicPartition(self._topic, p) for p in sorted(partitions)]
            return await self._search(consumer, places, await consumer.end_offsets(places))
        finally:
            await consumer.stop()

    async def _search(
        self, consumer: AIOKafkaConsumer, places: list[TopicPartition], ends: dict[TopicPartition, int]
    ) -> Cursors:
        consumer.assign(places)
        begins = await consumer.beginning_offsets(places)
        found: Cursors = {place.partition: {} for place in places}
        searched = {place: ends[place] for place in places}  # from here on
        lookback = FIRST_LOOKBACK_RECORDS
        while open_ := [p for p in places if searched[p] > begins[p] and not _complete(found[p.partition])]:
            until = {place: searched[place] for place in open_}
            for place in open_:
                searched[place] = max(begins[place], ends[place] - lookback)
                consumer.seek(place, searched[place])
            read: Cursors = {place.partition: {} for place in open_}
            while behind := [place for place in open_ if await consumer.position(place) < until[place]]:
                for place, records in (await consumer.getmany(*behind, timeout_ms=1000)).items():
                    for record in records:
                        if record.offset < until[place]:
                            self._take(record, read[place.partition])
            for partition, cursors in read.items():
                found[partition] = cursors | found[partition]  # what was written later holds
            lookback *= 2
        return found

    def _take(self, record: Any, into: dict[int, PaneSnapshot]) -> None:
        cursor = _cursor(record.value)
        if cursor is None or cursor.model != self._model:
            return
        if cursor.partition != record.partition:
            reason, why = "partition", f"is of partition {cursor.partition}"
        elif not self._fits(cursor):
            reason, why = "log", "does not fit the log that it counted"
        else:
            into[cursor.model_version] = cursor
            return
        self._metrics.cursors_refused.labels(reason).inc()
        log.warning(
            "%s-%d-%d: the cursor of version %d at offset %d %s; it is passed over",
            record.topic,
            record.partition,
            record.offset,
            cursor.model_version,
            cursor.last_offset,
            why,
        )


def _complete(found: dict[int, PaneSnapshot]) -> bool:
    """Whether the newest cursor is there, and those that it names and that may still matter."""
    if not found:
        return False
    newest = max(found.values(), key=lambda cursor: cursor.last_offset)
    needed = {o.model_version for o in newest.others or () if o.watermark_ms >= newest.watermark_ms - MAX_BEHIND_MS}
    return needed <= found.keys()


def _cursor(value: bytes | None) -> PaneSnapshot | None:
    try:
        record = decode(value, PaneSnapshot)
    except msgspec.MsgspecError:
        return None  # not ours
    return record if record.open else None
