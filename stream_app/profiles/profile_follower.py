"""Follows the topics that profiles of all partitions share: closed tiles and labels.

A thread reads every partition of both from the start, without a consumer group, into `SharedProfiles`. A worker is
ready when it has read what was there at its start. Invalid records are skipped, counted and logged.

A restore calls `catch_up` before the tiles of its partition are added: tiles are added in order of time, and those that
other workers closed come first.
"""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from kafka import TopicPartition

from schemas.configuration.settings import Settings
from schemas.dataset.declaration import Dataset
from schemas.records import Label
from schemas.tile_records import TileRecord
from schemas.time_units import DAY_MS
from scoring.profiles.profile_plan import ProfilePlan
from scoring.profiles.shared.label_inputs import label_inputs
from scoring.profiles.shared.shared_profiles import SharedProfiles
from scoring.profiles.shared.tile_log import TileAssembly
from stream_app.kafka.follower_thread import FollowerThread
from stream_app.kafka.record_validation import RecordIntake
from stream_app.kafka.topic_reader import has_more_partitions

log = logging.getLogger("tamiz.profiles")
POLL_TIMEOUT_MS = 100
MAX_POLL_RECORDS = 2_000
CHECK_PARTITIONS_INTERVAL_S = 15.0


class ProfileFollower(FollowerThread):
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
        plan = ProfilePlan.of(dataset)
        kinds = {p.kind for p in plan.profiles}
        topics = {"tiles": settings.profile_tiles_topic, "labels": settings.labels_topic}
        read = [topic for kind, topic in topics.items() if kind in kinds]
        super().__init__(settings.bootstrap, read, "tamiz-profile-follower", log)
        self._settings = settings
        self._plan = plan
        self._shared = shared
        self._count_unmatched = count_unmatched
        self._intake = RecordIntake(settings, log, count_skipped)
        self._assembly = TileAssembly(self._plan)
        self._next: dict[TopicPartition, int] = {}  # offset of the next record
        self._newest_ms = 0  # time up to which some partition's tiles are closed

    @property
    def progress(self) -> str:
        """One line for readiness and the log."""
        return f"shared profiles: {super().progress}"

    def _follow(self) -> None:
        consumer = self._consumer(
            max_poll_records=MAX_POLL_RECORDS, poll_timeout_ms=POLL_TIMEOUT_MS, auto_offset_reset="earliest"
        )
        try:
            partitions = self._partitions(consumer)
            consumer.assign(partitions)
            self._seek(consumer, partitions)
            checked_s = time.monotonic()
            while not self._stopping.is_set():
                if self._has_request:
                    self._take_request(consumer, partitions)
                for tp, records in consumer.poll(timeout_ms=POLL_TIMEOUT_MS).items():
                    self._read(tp, records)
                self._next = {tp: consumer.position(tp) for tp in partitions}
                if self._note_positions(self._next):
                    self._serve()
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
