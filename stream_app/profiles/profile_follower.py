"""Follows the topics that profiles of all partitions share: closed tiles and labels.

A thread reads every partition of both from the start, without a consumer group, into `SharedProfiles`. A worker is
ready when it has read what was there at its start. Invalid records are skipped, counted and logged. When the broker
does not respond, reading continues later from the same offsets.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from kafka import TopicPartition
from kafka.errors import KafkaError

from schemas.configuration.settings import Settings
from schemas.dataset.declaration import Dataset
from schemas.errors import BrokerError
from schemas.records import Label
from schemas.tile_records import TileRecord
from schemas.time_units import DAY_MS
from schemas.topics import MAX_RECORD_BYTES
from scoring.profiles.profile_plan import ProfilePlan
from scoring.profiles.shared.label_inputs import label_inputs
from scoring.profiles.shared.shared_profiles import SharedProfiles
from scoring.profiles.shared.tile_log import TileAssembly
from stream_app.kafka.kafka_clients import METADATA_MAX_AGE_MS, reader, require_broker
from stream_app.kafka.record_validation import RecordIntake
from stream_app.kafka.topic_reader import existing_partitions, has_more_partitions

log = logging.getLogger("tamiz.profiles")
POLL_TIMEOUT_MS = 100
MAX_POLL_RECORDS = 2_000
RETRY_DELAY_S = 2.0
CHECK_PARTITIONS_INTERVAL_S = 15.0


class ProfileFollower:
    """Reads `profile-tiles` and `labels` into the shared profiles."""

    def __init__(
        self,
        settings: Settings,
        dataset: Dataset,
        shared: SharedProfiles,
        *,
        count_skipped: Callable[[str], None] = lambda topic: None,
        count_unmatched: Callable[[int], None] = lambda n: None,
    ) -> None:
        """count_skipped: called with the topic of each invalid record.

        count_unmatched: called with a number of labels, fraud or not, that name no transaction time or no entity of a
        profile.
        """
        self._settings = settings
        self._plan = ProfilePlan.of(dataset)
        self._shared = shared
        self._count_unmatched = count_unmatched
        self._intake = RecordIntake(settings, log, count_skipped)
        self._assembly = TileAssembly(self._plan)
        kinds = {p.kind for p in self._plan.profiles}
        topics = {"tiles": settings.profile_tiles_topic, "labels": settings.labels_topic}
        self._topics = [topic for kind, topic in topics.items() if kind in kinds]
        self._next: dict[TopicPartition, int] = {}  # offset of the next record
        self._newest_ms = 0  # time up to which some partition's tiles are closed
        self._condition = threading.Condition()
        self._requested = 1  # requests to read to the end of the topics; the first is that of readiness
        self._served = 0
        self._left = 0  # records until the end that is waited for
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tamiz-profile-follower", daemon=True)

    @property
    def is_ready(self) -> bool:
        """Whether everything that was there at the start is read."""
        return self._served > 0 or not self._topics

    @property
    def progress(self) -> str:
        """One line for readiness and the log."""
        return f"shared profiles: {self._left:,} records of {' and '.join(self._topics)} left"

    def start(self) -> None:
        """Start the thread, if the data set has profiles that need it."""
        if self._topics:
            self._thread.start()

    def stop(self) -> None:
        """Stop the thread and wait for it."""
        self._stopping.set()
        with self._condition:
            self._condition.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    def catch_up(self, timeout_s: float | None = None) -> bool:
        """Wait until everything that is there now is read. False after the timeout, or when the follower stops.

        Call it before the tiles of a restored partition are added: tiles are added in order of time, and those that
        other workers closed come first.
        """
        if not self._topics:
            return True
        with self._condition:
            self._requested += 1
            mine = self._requested
            self._condition.wait_for(lambda: self._served >= mine or self._stopping.is_set(), timeout_s)
            return self._served >= mine

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._follow()
            except (KafkaError, BrokerError, OSError) as error:
                log.warning("%s cannot be read: %s; retry in %.0f s", " and ".join(self._topics), error, RETRY_DELAY_S)
                self._stopping.wait(RETRY_DELAY_S)

    def _follow(self) -> None:
        bootstrap = self._settings.bootstrap
        with require_broker(bootstrap):
            consumer = reader(
                bootstrap,
                keep_bytes=MAX_RECORD_BYTES,
                max_poll_records=MAX_POLL_RECORDS,
                fetch_max_wait_ms=POLL_TIMEOUT_MS,
                bootstrap_timeout_ms=15_000,
                metadata_max_age_ms=METADATA_MAX_AGE_MS,
                auto_offset_reset="earliest",
            )
        try:
            partitions = [p for topic in self._topics for p in existing_partitions(consumer, bootstrap, topic)]
            consumer.assign(partitions)
            self._seek(consumer, partitions)
            ends: dict[TopicPartition, int] = {}
            serving = self._served
            checked_s = time.monotonic()
            while not self._stopping.is_set():
                if serving == self._served < self._requested:
                    serving = self._requested
                    ends = consumer.end_offsets(partitions)
                for tp, records in consumer.poll(timeout_ms=POLL_TIMEOUT_MS).items():
                    self._read(tp, records)
                self._next = {tp: consumer.position(tp) for tp in partitions}
                self._left = sum(max(0, end - self._next[tp]) for tp, end in ends.items())
                if serving > self._served and not self._left:
                    with self._condition:
                        self._served = serving
                        self._condition.notify_all()
                if time.monotonic() - checked_s > CHECK_PARTITIONS_INTERVAL_S:
                    checked_s = time.monotonic()
                    if has_more_partitions(consumer):
                        return  # read with the new partitions
        finally:
            consumer.close()

    def _seek(self, consumer: Any, partitions: Sequence[TopicPartition]) -> None:
        first, ends = consumer.beginning_offsets(partitions), consumer.end_offsets(partitions)
        for tp in partitions:
            place = self._next.get(tp, first[tp])
            if not first[tp] <= place <= ends[tp]:
                log.warning(
                    "%s-%d: offset %d is not in the log, %d to %d; reading it from the start",
                    *(tp.topic, tp.partition, place, first[tp], ends[tp]),
                )
                place = first[tp]
            consumer.seek(tp, place)

    def _read(self, tp: TopicPartition, records: Sequence[Any]) -> None:
        if tp.topic == self._settings.labels_topic:
            labels = [label for r in records if (label := self._intake.read(r, Label)) is not None]
            if labels:
                inputs = label_inputs(self._plan, labels)
                self._shared.add_labels(inputs)
                self._count_unmatched(sum(label.fraud is not None for label in labels) - len(inputs.ids))
            return
        for record in records:
            read = self._intake.read(record, TileRecord)
            tiles = None if read is None else self._assembly.add(tp.partition, read)
            if isinstance(tiles, str):
                self._intake.skip(record, tiles)
            elif tiles is not None:
                self._shared.add_tiles(tp.partition, tiles)
                self._newest_ms = max(self._newest_ms, tiles.until_ms)
        # Memory stays bounded while the history is read, and in a worker that decides nothing.
        self._shared.advance(self._newest_ms - DAY_MS)
