"""Finds the logged profile features of transactions that are handled again: to explain, compare or search them.

A partition of the feature log has the order of its transactions, except for repeated decisions. So bisection finds the
records of some transactions without reading the whole topic.
"""

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Self

import msgspec
import numpy as np
from kafka import TopicPartition

from schemas.configuration.settings import Settings
from schemas.json_codec import decode
from schemas.records import FeatureRecord
from scoring.arrays import Floats, Indices, Ints
from scoring.input.cleaning import CleanedBatch
from scoring.profiles.feature_log import FeatureLog
from scoring.profiles.profile_plan import ProfilePlan
from stream_app.kafka.kafka_clients import reader, require_broker
from stream_app.kafka.plausibility import implausibility
from stream_app.kafka.topic_reader import existing_partitions

if TYPE_CHECKING:  # imported only where a data set declares profiles
    from scoring.profiles.profile_fold import ProfileBatch

SCAN_RECORDS = 500  # distance from which records are read one after the other
MAX_GAP = 5_000  # transactions after the last read; those further on are found by bisection
POLL_TIMEOUT_MS = 200
LATEST_TIME_MS = 2**62  # values are compared with a transaction, so a record from the future is harmless


class LoggedFeatures:
    """A `stream_app.decisions.handler.ProfileSource`: the values of some transactions, as a worker logged them."""

    def __init__(self, plan: ProfilePlan, log: FeatureLog) -> None:
        self.plan = plan
        self._log = log
        self._places = log.places()

    def features(self, cleaned: CleanedBatch, partitions: Indices, offsets: Ints) -> "ProfileBatch":
        """As `ProfileSource.features`. Values that were not logged are missing, and not complete."""
        from scoring.profiles.profile_fold import ProfileBatch

        found = self._log.find(
            partitions[cleaned.rows].astype(np.int64),
            offsets[cleaned.rows],
            cleaned.transaction_ids,
            cleaned.event_time_ms,
        )
        return ProfileBatch(found.matrix, found.complete, {})

    def values(self, partition: int, offset: int, transaction_id: str, event_time_ms: int) -> Floats | None:
        """The values of one transaction, shape (n_features,); None if they were not logged."""
        found = self._log.find(np.array([partition]), np.array([offset]), [transaction_id], np.array([event_time_ms]))
        return found.matrix[0] if found.found[0] else None

    def __contains__(self, place: tuple[int, int]) -> bool:
        """Whether the values of a partition and offset were logged."""
        return place in self._places


class FeatureLogReader:
    """Reads the records of some transactions. Use it as a context."""

    def __init__(self, settings: Settings, plan: ProfilePlan) -> None:
        """Raises BrokerError if the broker does not respond or the topic does not exist."""
        self._plan = plan
        with require_broker(settings.bootstrap):
            self._consumer = reader(settings.bootstrap, fetch_max_wait_ms=100, max_partition_fetch_bytes=262_144)
        try:
            partitions = existing_partitions(self._consumer, settings.bootstrap, settings.feature_log_topic)
            self._consumer.assign(partitions)
        except BaseException:
            self._consumer.close()
            raise
        self._last_read: dict[TopicPartition, tuple[int, int]] = {}  # offset of the transaction, next offset of the log
        self._partitions: Mapping[int, TopicPartition] = {p.partition: p for p in partitions}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def read(self, places: Iterable[tuple[int, int]], until_s: float, *, wait: bool = False) -> LoggedFeatures:
        """The logged features of transactions, by partition and offset.

        until_s: when to stop, on the monotonic clock. wait: until then, wait for records that are not written yet.
        """
        log = FeatureLog(self._plan)
        offsets: dict[int, set[int]] = defaultdict(set)
        for partition, offset in places:
            offsets[partition].add(offset)
        for partition, wanted in offsets.items():
            if (tp := self._partitions.get(partition)) is not None:
                self._read(tp, wanted, log, until_s, wait)
        return LoggedFeatures(self._plan, log)

    def _read(self, tp: TopicPartition, wanted: set[int], log: FeatureLog, until_s: float, wait: bool) -> None:
        self._consumer.pause(*(p for p in self._consumer.assignment() if p != tp))
        self._consumer.resume(tp)
        last, left = max(wanted), set(wanted)
        end = self._consumer.end_offsets([tp])[tp]
        self._consumer.seek(tp, self._start(tp, min(wanted), end, until_s))
        while left and time.monotonic() < until_s and (wait or self._consumer.position(tp) < end):
            for record in self._consumer.poll(timeout_ms=POLL_TIMEOUT_MS).get(tp, []):
                features = _features(record)
                if features is None:
                    continue
                if features.input_offset <= last:
                    self._last_read[tp] = features.input_offset, record.offset + 1
                if features.input_offset in wanted:
                    log.update(tp.partition, features)
                    left.discard(features.input_offset)
                elif features.input_offset > last:
                    return

    def _start(self, tp: TopicPartition, input_offset: int, end: int, until_s: float) -> int:
        """An offset of the log from which the record of a transaction is near."""
        last, next_offset = self._last_read.get(tp, (-1, 0))
        if last < input_offset <= last + MAX_GAP and next_offset:
            return next_offset
        low: int = self._consumer.beginning_offsets([tp])[tp]
        high = end
        while high - low > SCAN_RECORDS and time.monotonic() < until_s:
            middle = (low + high) // 2
            found = self._first_from(tp, middle, high, until_s)
            if found is None or found.input_offset >= input_offset:
                high = middle
            else:
                low = middle
        return low

    def _first_from(self, tp: TopicPartition, offset: int, end: int, until_s: float) -> FeatureRecord | None:
        """The first valid record from an offset on."""
        self._consumer.seek(tp, offset)
        while self._consumer.position(tp) < end and time.monotonic() < until_s:
            for record in self._consumer.poll(timeout_ms=POLL_TIMEOUT_MS, max_records=1).get(tp, []):
                if (features := _features(record)) is not None:
                    return features
        return None


def _features(record: Any) -> FeatureRecord | None:
    try:
        found = decode(record.value, FeatureRecord)
    except msgspec.MsgspecError:
        return None
    return found if implausibility(found, LATEST_TIME_MS) is None else None
