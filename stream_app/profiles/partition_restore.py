"""The restore of a partition's profiles: the newest snapshot that fits, then a replay of the input from its offset."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from aiokafka.errors import KafkaError

from schemas.configuration.settings import Settings
from scoring.profiles.partition_profiles import PartitionProfiles
from scoring.profiles.profile_plan import ProfilePlan
from stream_app.profiles.input_replay import replay
from stream_app.profiles.snapshot_store import SnapshotStore
from stream_app.worker.worker_metrics import WorkerMetrics

log = logging.getLogger("tamiz.profiles")
RETRY_DELAY_S = 1.0
PROGRESS_INTERVAL_S = 10.0  # between two log lines of a restore


class Follower(Protocol):
    """Reads the topics that the profiles of all partitions share (`stream_app.profiles.profile_follower`)."""

    @property
    def is_ready(self) -> bool:
        """Whether everything that was there at the start is read."""

    @property
    def progress(self) -> str:
        """One line for readiness."""

    def start(self) -> None:
        """Start."""

    def stop(self) -> None:
        """Stop and wait for the end."""

    def catch_up(self, timeout_s: float | None = None) -> bool:
        """Wait until everything that is there now is read; False after the timeout."""


class PartitionRestore:
    """The restore of one partition. The restore thread writes `profiles`, `begin` and `finished`, others `until`."""

    def __init__(self, partition: int, topic_id: str, until: int, profiles: PartitionProfiles | None) -> None:
        """until: offset before which it ends. profiles: the state to continue from; None: a snapshot's."""
        self.partition = partition
        self.topic_id = topic_id
        self.until: int | None = until  # None: given up
        self.profiles = profiles
        self.begin: int | None = None  # first offset that is replayed
        self.snapshot_offset = -1  # of the snapshot that it began with
        self.started_s = time.monotonic()
        self.finished = False

    @property
    def reached(self) -> int:
        """The offset up to which its profiles are folded."""
        return 0 if self.profiles is None else self.profiles.next_offset

    @property
    def progress(self) -> str:
        """One line for readiness and the log."""
        profiles, begin, until = self.profiles, self.begin, self.until
        if profiles is None or begin is None or until is None:
            return f"profiles of partition {self.partition}: reading the snapshot"
        done, total = max(0, profiles.next_offset - begin), until - begin
        rate = done / max(0.001, time.monotonic() - self.started_s)
        left = f", {(total - done) / rate:,.0f} s left" if rate else ""
        return f"profiles of partition {self.partition}: {done:,} of {total:,} records, {rate:,.0f}/s{left}"


class Restorer:
    """Restores partitions, one after the other, in a thread of its own."""

    def __init__(
        self,
        settings: Settings,
        plan: ProfilePlan,
        store: SnapshotStore,
        follower: Follower,
        *,
        fold: Callable[[int, PartitionProfiles, Sequence[Any], int], None],
        metrics: WorkerMetrics,
        exit_: Callable[[BaseException], None],
    ) -> None:
        """fold: folds records of a partition into its profiles; the last argument is the offset after the records.

        exit_: ends the process after an error that is not the broker's.
        """
        self._settings = settings
        self._plan = plan
        self._store = store
        self._follower = follower
        self._fold = fold
        self._metrics = metrics
        self._exit = exit_
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tamiz-restore")

    def submit(self, restore: PartitionRestore) -> None:
        """Restore a partition after those that were submitted before."""
        self._executor.submit(self._restore, restore)

    def _restore(self, restore: PartitionRestore) -> None:
        try:
            if restore.profiles is None:
                restore.profiles = self._from_snapshot(restore)
            # Tiles are added in order of time, and those that other workers closed and published come first.
            while restore.until is not None and not self._follower.catch_up(RETRY_DELAY_S):
                pass
            while restore.until is not None:
                try:
                    asyncio.run(self._replay(restore, restore.profiles))
                    break
                except (KafkaError, OSError) as error:
                    log.warning(
                        "profiles of partition %d cannot be restored yet: %s; retry in %.0f s",
                        *(restore.partition, error, RETRY_DELAY_S),
                    )
                    time.sleep(RETRY_DELAY_S)
            if restore.until is None:
                return
            restore.profiles.next_offset = restore.until  # markers of Kafka transactions may follow the last record
            restore.finished = True
            seconds = time.monotonic() - restore.started_s
            self._metrics.profile_restore.observe(seconds)
            log.info(
                "profiles of partition %d restored up to offset %d in %.1f s: %d keys, %d records read",
                *(restore.partition, restore.until, seconds, restore.profiles.counts.keys),
                restore.until - (restore.until if restore.begin is None else restore.begin),
            )
        except BaseException as error:
            self._exit(error)

    def _from_snapshot(self, restore: PartitionRestore) -> PartitionProfiles:
        plan, max_offset = self._plan, restore.until or 0
        while True:
            snapshot, why = self._store.newest(
                self._settings.transactions_topic,
                restore.partition,
                topic_id=restore.topic_id,
                digest=plan.digest,
                max_offset=max_offset,
            )
            if snapshot is None:
                log.info(
                    "profiles of partition %d: no snapshot is used (%s); reading the partition from its start",
                    *(restore.partition, why),
                )
                return PartitionProfiles(plan)
            try:
                profiles = PartitionProfiles.from_arrays(plan, dict(snapshot.arrays))
            except ValueError as error:
                self._metrics.profile_snapshots.labels("refused").inc()
                log.error("profiles of partition %d: %s is not used: %s", restore.partition, why, error)
                max_offset = snapshot.position.next_offset - 1
                continue
            profiles.next_offset = restore.snapshot_offset = snapshot.position.next_offset
            return profiles

    async def _replay(self, restore: PartitionRestore, profiles: PartitionProfiles) -> None:
        if profiles.next_offset >= (restore.until or 0):
            return
        shown_s = time.monotonic()

        def first(begin: int) -> int:
            if 0 < profiles.next_offset < begin:
                log.warning(
                    "profiles of partition %d: retention deleted %d records that the snapshot does not hold",
                    *(restore.partition, begin - profiles.next_offset),
                )
            at = max(begin, profiles.next_offset)
            if restore.begin is None:
                restore.begin = at
            return at

        def fold(records: Sequence[Any], next_offset: int) -> None:
            nonlocal shown_s
            self._fold(restore.partition, profiles, records, next_offset)
            self._metrics.profile_replayed_records.inc(len(records))
            if time.monotonic() - shown_s > PROGRESS_INTERVAL_S:
                shown_s = time.monotonic()
                log.info("%s", restore.progress)

        topic = self._settings.transactions_topic
        await replay(
            self._settings.bootstrap, topic, restore.partition, until=lambda: restore.until, first=first, fold=fold
        )
