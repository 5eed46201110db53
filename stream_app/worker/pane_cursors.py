"""Reads the newest pane cursors from the ends of `drift-panes`.

A cursor is the last record of each batch. Any number of other records may lie between two cursors: closed panes,
transaction markers, aborted writes, records of other programs. So the search goes back in doubling steps until it has
each partition's newest cursor and the cursors that it names, or the start of the topic. Because a cursor may name
versions that do not exist, the search for named versions and for the version in service is bounded.
"""

import logging
from collections.abc import Callable
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from schemas.json_codec import decode
from schemas.records import PaneSnapshot
from schemas.time_units import DAY_MS
from stream_app.kafka.log_reader import log_reader
from stream_app.worker.worker_metrics import WorkerMetrics

log = logging.getLogger("tamiz.drift")

FIRST_LOOKBACK_RECORDS = 200
MAX_UNNAMED_LOOKBACK_RECORDS = 20_000  # offsets from the end, for a version not named by the newest cursor
MAX_NAMED_LOOKBACK_RECORDS = 1_000_000  # offsets from the end, for versions it names
# All panes of a version whose watermark lags further behind the newest one are closed.
MAX_BEHIND_MS = 2 * DAY_MS

Cursors = dict[int, dict[int, PaneSnapshot]]  # by input partition, by model version


class CursorReader:
    """Reads the ends of `drift-panes`."""

    def __init__(
        self,
        bootstrap: str,
        topic: str,
        *,
        model: str,
        version: Callable[[], int],
        fits: Callable[[PaneSnapshot], bool],
        metrics: WorkerMetrics,
    ) -> None:
        """version: returns the model version in service.

        fits: whether a cursor fits its input log. One that does not is skipped and does not hide an older one.
        """
        self._bootstrap = bootstrap
        self._topic = topic
        self._model = model
        self._version = version
        self._fits = fits
        self._metrics = metrics

    async def last_cursors(self, partitions: set[int]) -> Cursors:
        """The newest cursor of each of these input partitions, by model version."""
        async with log_reader(self._bootstrap) as consumer:
            places = [TopicPartition(self._topic, p) for p in sorted(partitions)]
            return await self._search(consumer, places, await consumer.end_offsets(places))

    async def _search(
        self, consumer: AIOKafkaConsumer, places: list[TopicPartition], ends: dict[TopicPartition, int]
    ) -> Cursors:
        begins = await consumer.beginning_offsets(places)
        consumer.assign(places)  # no await between `assign` and `seek`, or the client starts at the earliest offset
        found: Cursors = {place.partition: {} for place in places}
        searched = {place: ends[place] for place in places}  # lowest offset read so far
        lookback, version = FIRST_LOOKBACK_RECORDS, self._version()
        while open_ := [
            place
            for place in places
            if searched[place] > begins[place]
            and not _complete(found[place.partition], version, ends[place] - searched[place])
        ]:
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
                found[partition] = cursors | found[partition]  # later records take precedence
            lookback *= 2
        for place in places:
            if searched[place] > begins[place] and (
                missing := _named(found[place.partition]) - found[place.partition].keys()
            ):
                self._metrics.cursors_rejected.labels("missing").inc()
                log.warning(
                    "%s-%d: the newest cursor names %d versions that have no cursor in the last %d offsets",
                    *place,
                    len(missing),
                    ends[place] - searched[place],
                )
        return found

    def _take(self, record: Any, into: dict[int, PaneSnapshot]) -> None:
        cursor = _cursor(record.value)
        if cursor is None or cursor.model != self._model:
            return
        if cursor.partition != record.partition:
            reason, why = "partition", f"names partition {cursor.partition}"
        elif not self._fits(cursor):
            reason, why = "log", "does not fit the log of its input partition"
        else:
            into[cursor.model_version] = cursor
            return
        self._metrics.cursors_rejected.labels(reason).inc()
        log.warning(
            "%s-%d-%d: skipped the cursor of version %d at offset %d: it %s",
            record.topic,
            record.partition,
            record.offset,
            cursor.model_version,
            cursor.last_offset,
            why,
        )


def _complete(found: dict[int, PaneSnapshot], version: int, looked_back: int) -> bool:
    """Whether the search can end: the newest cursor is found, and those it names, and that of `version`, or bounds hit.

    looked_back: offsets searched, from the end.
    """
    if not found:
        return False
    if not _named(found) <= found.keys():
        return looked_back >= MAX_NAMED_LOOKBACK_RECORDS
    return version in found or looked_back >= MAX_UNNAMED_LOOKBACK_RECORDS


def _named(found: dict[int, PaneSnapshot]) -> set[int]:
    """Versions that the newest cursor names and whose panes may still be open."""
    if not found:
        return set()
    newest = max(found.values(), key=lambda cursor: cursor.last_offset)
    return {o.model_version for o in newest.others or () if o.watermark_ms >= newest.watermark_ms - MAX_BEHIND_MS}


def _cursor(value: bytes | None) -> PaneSnapshot | None:
    try:
        record = decode(value, PaneSnapshot)
    except msgspec.MsgspecError:
        return None  # written by another program
    return record if record.open else None
