"""The state of profiles in a worker: restored when a partition is assigned, saved every few minutes and at the end.

The input topic is the changelog: the state is a fold over it. So a snapshot only saves time, and a restore is the
newest snapshot that fits plus a replay of the input from its offset up to where the partition is read from. The result
is the same to the bit as that of a worker that has read the partition from the start.

* A partition is not read until it is restored; the other partitions of the worker are decided meanwhile.
* A snapshot is written only when its offset is committed. So no snapshot holds a transaction that is not decided.
* A partition that stays with the worker over a rebalance keeps its state, if the worker knows the values of all
  transactions between the committed offset and what is folded.
* The state is changed in the scoring thread only. Restore and writing have threads of their own.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

from schemas.configuration.settings import Settings
from schemas.record_parts import last_offset
from scoring.profiles.partition_profiles import PartitionCopy, PartitionProfiles
from scoring.profiles.profile_fold import ProfileFold
from scoring.profiles.shared.open_tiles import ClosedTiles
from scoring.profiles.shared.tile_log import encode_tiles
from stream_app.decisions.handler import HandlerPolicy
from stream_app.offsets.offset_validation import is_same_topic
from stream_app.output.outgoing_records import OutgoingRecord, OutgoingRecords
from stream_app.profiles.input_replay import fold_records
from stream_app.profiles.partition_restore import Follower, PartitionRestore, Restorer
from stream_app.profiles.snapshot_file import Snapshot, SnapshotPosition
from stream_app.profiles.snapshot_store import SnapshotStore
from stream_app.worker.worker_metrics import WorkerMetrics

log = logging.getLogger("tamiz.profiles")
CHECK_INTERVAL_S = 0.5  # for snapshots that are due
COMMIT_POLL_INTERVAL_S = 0.02
COMMIT_TIMEOUT_S = 60.0  # for the offset of a snapshot to be committed; then it is dropped


class ProfilesMissingError(Exception):
    """Records of a partition are to be decided whose profiles are not restored. A fault of the program."""


class _Capture(NamedTuple):
    position: SnapshotPosition
    profiles: PartitionProfiles  # a copy, or a state that is not used any more


class ProfileState:
    """The profiles of a worker's partitions."""

    def __init__(
        self,
        settings: Settings,
        fold: ProfileFold,
        policy: HandlerPolicy,
        store: SnapshotStore,
        follower: Follower,
        *,
        metrics: WorkerMetrics,
        exit_: Callable[[BaseException], None],
    ) -> None:
        """policy: how records are cleaned. follower: of the topics that the profiles of all partitions share.

        exit_: ends the process after an error that is not the broker's.
        """
        self.fold = fold
        self._settings = settings
        self._policy = policy
        self._store = store
        self._follower = follower
        self._metrics = metrics
        self._topic_ids: dict[int, str] = {}  # of the assigned partitions
        self._committed: dict[int, int] = {}  # committed offset of each; values from there on are kept
        self._to_commit: SimpleQueue[Mapping[int, int]] = SimpleQueue()  # for the scoring thread
        self._restores: dict[int, PartitionRestore] = {}
        self._unpublished: dict[int, list[ClosedTiles]] = {}  # tiles that a restore closed and no worker has published
        self._saved: dict[int, tuple[int, float]] = {}  # next offset of the last snapshot, and when it was written
        self._counted: dict[int, tuple[int, ...]] = {}  # counts of each partition that are in the metrics
        self._restorer = Restorer(settings, fold.plan, store, follower, fold=self._fold, metrics=metrics, exit_=exit_)
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tamiz-snapshots")

    @property
    def restoring(self) -> set[int]:
        """The partitions that are not restored yet."""
        return set(self._restores)

    @property
    def has_restored(self) -> bool:
        """Whether `take_restored` would return partitions."""
        return any(restore.finished for restore in list(self._restores.values()))

    def problems(self) -> list[str]:
        """What is not restored yet, one line for each partition."""
        shared = [] if self._follower.is_ready else [self._follower.progress]
        return shared + [restore.progress for _, restore in sorted(self._restores.items())]

    # In the scoring thread.

    def assign(self, starts: Mapping[int, int], topic_id: str) -> set[int]:
        """Prepare partitions to be read from an offset each; returns those that must be restored first."""
        restoring = set()
        for partition, offset in starts.items():
            if self._holds(partition, topic_id, offset):
                continue
            restoring.add(partition)
            running = self._restores.get(partition)
            if running is not None and is_same_topic(running.topic_id, topic_id) and running.reached <= offset:
                running.until = offset
                continue
            if running is not None:
                running.until = None
            held = self.fold.revoke(partition)
            behind = held is not None and held.next_offset <= offset and self._is_of(partition, topic_id)
            self._restores[partition] = PartitionRestore(partition, topic_id, offset, held if behind else None)
            self._restorer.submit(self._restores[partition])
        return restoring

    def retain(self, partitions: set[int]) -> None:
        """Drop all other partitions, which other workers read. What is committed of them is saved."""
        for partition in self._restores.keys() - partitions:
            self._restores.pop(partition).until = None
        for partition in list(self.fold.partitions.keys() - partitions):
            position = self._position(partition)
            profiles = self.fold.revoke(partition)
            is_new = position.next_offset > self._saved[partition][0]
            if profiles is not None and is_new and position.next_offset <= self._committed[partition]:
                self._writer.submit(self._write, _Capture(position, profiles))
            for known in (self._topic_ids, self._committed, self._saved, self._counted, self._unpublished):
                known.pop(partition, None)

    def take_restored(self) -> set[int]:
        """Take over the partitions that are restored by now; returns them."""
        taken = set()
        for partition, restore in list(self._restores.items()):
            profiles = restore.profiles
            if not restore.finished or profiles is None or restore.until is None:
                continue
            if profiles.next_offset < restore.until:  # the offset moved meanwhile
                restore.finished = False
                self._restorer.submit(restore)
                continue
            self.fold.assign(partition, profiles)
            self._topic_ids[partition], self._committed[partition] = restore.topic_id, restore.until
            # From the start of the restore: one that took long is saved at once.
            self._saved[partition] = restore.snapshot_offset, restore.started_s
            self._counted[partition] = _counts(profiles)
            del self._restores[partition]
            taken.add(partition)
        return taken

    def fold_decided(self, records: Sequence[Any]) -> None:
        """Fold records that the previous owner of their partition has decided after this worker began to read it."""
        for partition in sorted({record.partition for record in records}):
            profiles = self.fold.partitions[partition]
            own = [r for r in records if r.partition == partition and r.offset >= profiles.next_offset]
            if own:
                next_offset = last_offset(own[-1]) + 1
                self._fold(partition, profiles, own, next_offset)
                self._committed[partition] = next_offset

    def tile_records(self, closed: Mapping[int, Sequence[ClosedTiles]]) -> OutgoingRecords:
        """Records of the tiles that a batch closed, by partition, and before them of those that a restore closed."""
        return OutgoingRecords.of(
            OutgoingRecord(partition, None, value, [])
            for partition, tiles in closed.items()
            for each in (*self._unpublished.get(partition, ()), *tiles)
            for value in encode_tiles(self.fold.plan, each)
        )

    def require(self, partitions: set[int]) -> None:
        """Raise ProfilesMissingError if a partition is not restored: deciding it would give wrong values."""
        if missing := partitions - self.fold.partitions.keys():
            raise ProfilesMissingError(f"profiles of partitions {sorted(missing)} are not restored")

    def forget_committed(self) -> None:
        """Forget the values of transactions that are committed by now."""
        while True:
            try:
                self.fold.commit(self._to_commit.get_nowait())
            except Empty:
                return

    # In the event loop.

    def committed(self, offsets: Mapping[int, int]) -> None:
        """Note the committed offset of partitions."""
        self._committed |= {partition: at for partition, at in offsets.items() if partition in self._committed}
        self._to_commit.put(offsets)

    def published(self, partitions: Iterable[int]) -> None:
        """Note that what `tile_records` gave for these partitions is published."""
        for partition in partitions:
            self._unpublished.pop(partition, None)

    async def run(self, scoring: Executor) -> None:
        """Follow the shared topics, and save each partition every `profile_snapshot_seconds`, until cancelled."""
        self._follower.start()
        try:
            await self._save_regularly(scoring)
        finally:
            for restore in list(self._restores.values()):
                restore.until = None  # or the process would not end before it is done
            await asyncio.to_thread(self._follower.stop)

    async def _save_regularly(self, scoring: Executor) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(CHECK_INTERVAL_S)
            await loop.run_in_executor(scoring, self._set_metrics)  # arrays of a state may be replaced while it folds
            for partition in self._due():
                copy = await loop.run_in_executor(scoring, self._begin_copy, partition)
                if copy is None:
                    continue
                await loop.run_in_executor(self._writer, copy.copy_events)
                capture = await loop.run_in_executor(scoring, self._finish_copy, partition, copy)
                if capture is not None and await self._is_committed(capture.position):
                    await loop.run_in_executor(self._writer, self._write, capture)

    async def save(self, scoring: Executor) -> None:
        """Save all partitions at the end. Nothing may be decided any more."""
        await asyncio.get_running_loop().run_in_executor(scoring, self.retain, set())
        await asyncio.get_running_loop().run_in_executor(self._writer, lambda: None)

    def _due(self) -> list[int]:
        now, interval = time.monotonic(), self._settings.profile_snapshot_seconds
        return [
            partition
            for partition, (offset, saved_s) in list(self._saved.items())
            if now - saved_s >= interval
            and (profiles := self.fold.partitions.get(partition)) is not None
            and profiles.next_offset > offset
        ]

    async def _is_committed(self, position: SnapshotPosition) -> bool:
        deadline = time.monotonic() + COMMIT_TIMEOUT_S
        while self._committed.get(position.partition, -1) < position.next_offset:
            if position.partition not in self._committed or time.monotonic() > deadline:
                return False
            await asyncio.sleep(COMMIT_POLL_INTERVAL_S)
        return True

    # In the scoring thread, too.

    def _set_metrics(self) -> None:
        metrics, now = self._metrics, time.monotonic()
        totals = {partition: profiles.counts for partition, profiles in list(self.fold.partitions.items())}
        shared = self.fold.shared.counts
        metrics.profile_entities.set(shared.entities)
        metrics.profile_keys.set(sum(counts.keys for counts in totals.values()))
        metrics.profile_bytes.set(shared.n_bytes + sum(counts.n_bytes for counts in totals.values()))
        changed = [
            saved_s
            for partition, (offset, saved_s) in list(self._saved.items())
            if (profiles := self.fold.partitions.get(partition)) is not None and profiles.next_offset > offset
        ]
        metrics.profile_snapshot_age.set(now - min(changed, default=now))
        metrics.profile_partitions_restoring.set(len(self._restores))
        for partition, counts in totals.items():
            before = self._counted.get(partition)
            if before is None:
                continue
            found = tuple(counts[2:])
            self._counted[partition] = found
            for event, new, old in zip(counts._fields[2:], found, before, strict=True):
                metrics.profile_events.labels(event).inc(max(0, new - old))

    def _is_of(self, partition: int, topic_id: str) -> bool:
        return is_same_topic(self._topic_ids.get(partition, ""), topic_id)

    def _holds(self, partition: int, topic_id: str, offset: int) -> bool:
        """Whether the state is that at an offset, or is ahead of it and all values since then are kept."""
        held = self.fold.partitions.get(partition)
        if held is None or not self._is_of(partition, topic_id):
            return False
        return self._committed[partition] <= offset <= held.next_offset

    def _position(self, partition: int) -> SnapshotPosition:
        return SnapshotPosition(
            topic=self._settings.transactions_topic,
            topic_id=self._topic_ids.get(partition, ""),
            partition=partition,
            next_offset=self.fold.partitions[partition].next_offset,
            digest=self.fold.plan.digest,
        )

    def _begin_copy(self, partition: int) -> PartitionCopy | None:
        profiles = self.fold.partitions.get(partition)
        return None if profiles is None else profiles.begin_copy()

    def _finish_copy(self, partition: int, copy: PartitionCopy) -> _Capture | None:
        if not copy.is_of(self.fold.partitions.get(partition)):
            return None  # given up, or restored again meanwhile
        started = time.monotonic()
        capture = _Capture(self._position(partition), copy.finish())
        self._metrics.profile_capture.observe(time.monotonic() - started)
        return capture

    def _fold(self, partition: int, profiles: PartitionProfiles, records: Sequence[Any], next_offset: int) -> None:
        update = fold_records(profiles, self.fold.plan, self._policy, records, next_offset)
        for tiles in update.closed:
            # The worker that decided these transactions has published the tiles, unless the declaration is new.
            if tiles.until_ms > self.fold.shared.closed_until(tiles.profile, partition):
                self.fold.shared.add_tiles(partition, tiles)
                self._unpublished.setdefault(partition, []).append(tiles)

    # In the thread that writes snapshots.

    def _write(self, capture: _Capture) -> None:
        position = capture.position
        started = time.monotonic()
        size = self._store.save(Snapshot(position, capture.profiles.to_arrays()))
        self._metrics.profile_snapshots.labels("failed" if size is None else "saved").inc()
        if size is None:
            return
        if position.partition in self._saved:
            self._saved[position.partition] = position.next_offset, time.monotonic()
        log.info(
            "profiles of partition %d saved up to offset %d: %d kB in %.1f s",
            position.partition,
            position.next_offset,
            size // 1000,
            time.monotonic() - started,
        )


def _counts(profiles: PartitionProfiles) -> tuple[int, ...]:
    return tuple(profiles.counts[2:])
