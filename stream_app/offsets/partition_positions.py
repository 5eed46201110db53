"""Start positions of the worker's partitions, and which of them are paused because their offset does not fit the log.

`PartitionPositions` queries the cluster (kafka-python, in a thread) and validates (`offset_validation`); the transport
seeks and pauses. A separate thread checks the topics every second, to detect that a topic is recreated, deleted or
given more partitions while the worker runs.
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from itertools import count
from typing import NamedTuple

from faust.types import TP
from kafka import KafkaAdminClient, TopicPartition
from kafka.errors import KafkaError
from kafka.protocol.consumer import IsolationLevel

from schemas.configuration.settings import Settings
from schemas.errors import BrokerError
from schemas.records import PaneSnapshot
from stream_app.kafka.kafka_clients import client_config, require_broker
from stream_app.kafka.topic_admin import DescribedTopic, described
from stream_app.offsets import offset_validation
from stream_app.offsets.offset_validation import CommittedOffset, OutputEnd, PartitionLog, StartPosition
from stream_app.offsets.output_offsets import OutputOffset, find_output_end, read_output_offsets
from stream_app.worker.worker_metrics import WorkerMetrics

log = logging.getLogger("tamiz.positions")
CHECK_INTERVAL_S = 1.0
RETRY_DELAY_S = 1.0
CHECKS_PER_STABLE_END_CHECK = 10
MAX_OPEN_TRANSACTION_S = 60.0  # the broker aborts a worker's transaction by then; other producers may set 15 minutes
EARLIEST, LATEST = -2, -1  # special timestamps of Kafka's ListOffsets request


class OffsetSource:
    """Queries the cluster, one request at a time. Creates a new client after a failure."""

    def __init__(self, settings: Settings, outputs: Sequence[str]) -> None:
        self._settings = settings
        self._outputs = outputs
        self._lock = threading.Lock()
        self._client: KafkaAdminClient | None = None

    def topics(self) -> dict[str, DescribedTopic]:
        """The input and output topics that exist. Raises BrokerError or KafkaError."""
        with self._admin_client() as client:
            return described(client, (self._settings.transactions_topic, *self._outputs))

    def ends(self, partitions: Sequence[TP]) -> dict[TP, tuple[int, int]]:
        """First offset and next offset to be written, by partition."""
        with self._admin_client() as client:
            begins = client.list_partition_offsets({TopicPartition(*tp): EARLIEST for tp in partitions})
            ends = client.list_partition_offsets({TopicPartition(*tp): LATEST for tp in partitions})
        return {tp: (begins[TopicPartition(*tp)].offset, ends[TopicPartition(*tp)].offset) for tp in partitions}

    def stable_ends(self, partitions: Sequence[TP]) -> dict[TP, tuple[int, int]]:
        """Last stable offset (limited by open Kafka transactions) and end of the log, by partition."""
        latest = {TopicPartition(*tp): LATEST for tp in partitions}
        with self._admin_client() as client:
            stable = client.list_partition_offsets(latest, isolation_level=IsolationLevel.READ_COMMITTED)
            ends = client.list_partition_offsets(latest)
        return {TP(*tp): (stable[tp].offset, ends[tp].offset) for tp in latest}

    def committed(self, partitions: Sequence[TP]) -> dict[TP, CommittedOffset]:
        """The group's committed offsets, for partitions that have one."""
        group = self._settings.consumer_group
        with self._admin_client() as client:
            found = client.list_group_offsets({group: [TopicPartition(*tp) for tp in partitions]})[group]
        return {
            TP(*tp): CommittedOffset(at.offset, offset_validation.read_metadata(at.metadata))
            for tp, at in found.items()
            if at.offset >= 0
        }

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    @contextlib.contextmanager
    def _admin_client(self):  # type: ignore[no-untyped-def]
        bootstrap = self._settings.bootstrap
        with self._lock:
            if self._client is None:
                with require_broker(bootstrap):
                    self._client = KafkaAdminClient(
                        **client_config(bootstrap), request_timeout_ms=10_000, bootstrap_timeout_ms=10_000
                    )
            try:
                yield self._client
            except BaseException:
                client, self._client = self._client, None
                client.close()
                raise


class StableEnds:
    """Detects Kafka transactions left open: the last stable offset stays the same while records follow it. A fold."""

    def __init__(self) -> None:
        self._since: dict[TP, tuple[int, float]] = {}
        self._reported: set[tuple[TP, int]] = set()

    def update(self, now_s: float, ends: Mapping[TP, tuple[int, int]]) -> list[tuple[TP, int, int]]:
        """Newly detected partitions: partition, last stable offset, number of records behind it.

        now_s: monotonic clock. ends: last stable offset and end of the log, by partition.
        """
        self._since = {
            tp: (stable, self._since[tp][1] if self._since.get(tp, (None,))[0] == stable else now_s)
            for tp, (stable, end) in ends.items()
            if end > stable
        }
        found = {tp: stable for tp, (stable, since) in self._since.items() if now_s - since >= MAX_OPEN_TRANSACTION_S}
        new = [(tp, stable) for tp, stable in found.items() if (tp, stable) not in self._reported]
        self._reported = set(found.items())
        return [(tp, stable, ends[tp][1] - stable) for tp, stable in new]


class CheckedStart(NamedTuple):
    """The start position of a partition, and the id of the topic that it is valid for."""

    topic_id: str
    start: StartPosition


class PartitionPositions:
    """Start positions and paused partitions of this worker; the source for readiness and metrics."""

    def __init__(self, settings: Settings, metrics: WorkerMetrics, topic_id: str, outputs: Sequence[str]) -> None:
        """topic_id: Kafka's id of the transactions topic at the start. outputs: topics written by input partition."""
        self.topic_id = topic_id
        self.changed = threading.Event()  # set when topics changed and positions must be checked again
        self._settings = settings
        self._outputs = outputs
        self._metrics = metrics
        self._cluster = OffsetSource(settings, outputs)
        self._starts: dict[TP, CheckedStart] = {}
        self._ends: dict[int, int] = {}  # by partition: end of the log when it was checked
        self._is_topic_missing = False  # the input topic
        self._topic_state: tuple[str, int, int] = (topic_id, -1, -1)  # id, partitions, partitions of all outputs
        self._stable_ends = StableEnds()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run_checks, name="tamiz-positions", daemon=True)

    def start(self) -> None:
        """Start checking the topics."""
        self._thread.start()

    def stop(self) -> None:
        """Stop checking."""
        self._stopped.set()

    @property
    def paused(self) -> dict[int, StartPosition]:
        """The partitions that are not read, with the fault."""
        return {tp.partition: checked.start for tp, checked in self._starts.items() if checked.start.is_paused}

    def are_checked(self, partitions: Sequence[int]) -> bool:
        """Whether each of these partitions has a start position."""
        return {tp.partition for tp in self._starts} >= set(partitions)

    def problems(self) -> list[str]:
        """Problems that an operator has to solve, one line each, for readiness."""
        lines = [f"topic {self._settings.transactions_topic}, which does not exist"] if self._is_topic_missing else []
        return lines + [start.message for _, start in sorted(self.paused.items())]

    def fits(self, cursor: PaneSnapshot) -> bool:
        """Whether a pane cursor fits the current log of its input partition."""
        return offset_validation.is_same_topic(cursor.topic_id, self.topic_id) and cursor.last_offset < self._ends.get(
            cursor.partition, cursor.last_offset + 1
        )

    async def starts(self, partitions: set[TP], at: Mapping[TP, int]) -> dict[TP, StartPosition]:
        """Start position of each partition. Retries until the cluster responds.

        at: current positions of partitions that are being read; the others start at the group's committed offset.
        """
        while True:
            try:
                return await asyncio.to_thread(self._check_starts, sorted(partitions), at)
            except (BrokerError, KafkaError) as error:
                log.warning("offsets cannot be checked yet: %s; retry in %.0f s", error, RETRY_DELAY_S)
                await asyncio.sleep(RETRY_DELAY_S)

    def _check_starts(self, partitions: Sequence[TP], at: Mapping[TP, int]) -> dict[TP, StartPosition]:
        topics = self._cluster.topics()
        topic = topics.get(self._settings.transactions_topic)
        previous_id, n_outputs = self.topic_id, self._output_partitions(topics)
        if topic is None:
            raise BrokerError(f"topic {self._settings.transactions_topic} does not exist")
        committed = self._cluster.committed([tp for tp in partitions if tp not in at])
        known = committed | {tp: CommittedOffset(offset, previous_id) for tp, offset in at.items()}
        unverified = [tp for tp in partitions if tp not in known or known[tp].topic_id is None]
        outputs = read_output_offsets(self._settings, [tp.partition for tp in unverified]) if unverified else {}
        # Read last, because the log grows: an offset committed meanwhile must not appear to be beyond its end.
        logs = self._cluster.ends(partitions)
        output_ends = {
            tp: self._output_end(outputs[tp.partition], PartitionLog(topic.id, *logs[tp])) for tp in unverified
        }
        starts = {}
        for tp in partitions:
            place = f"{tp.topic}-{tp.partition}"
            if tp.partition >= n_outputs:
                start = self._missing_output_partition(place, tp.partition, topics, logs[tp][0])
            else:
                start = offset_validation.start_position(
                    place,
                    PartitionLog(topic.id, *logs[tp]),
                    known.get(tp),
                    output_ends.get(tp),
                    self._settings.offset_reset,
                )
            self._record(tp, CheckedStart(topic.id, start))
            starts[tp] = start
        self.topic_id = topic.id
        self._ends |= {tp.partition: logs[tp][1] for tp in partitions}
        self._topic_state = (topic.id, topic.partitions, n_outputs)
        return starts

    def retain(self, partitions: set[TP]) -> None:
        """Drop the positions of all other partitions, which other workers read."""
        self._starts = {tp: checked for tp, checked in self._starts.items() if tp in partitions}
        self._metrics.partitions_paused.set(len(self.paused))

    def _output_end(self, outputs: Sequence[OutputOffset], log: PartitionLog) -> OutputEnd | None:
        return find_output_end(
            [output for output in outputs if output.topic_id != log.topic_id or output.offset < log.end],
            begin=log.begin,
            exactly_once=self._settings.processing_guarantee == "exactly-once",
            batch_max_records=self._settings.batch_max_records,
        )

    def _output_partitions(self, topics: Mapping[str, DescribedTopic]) -> int:
        return min(topics[name].partitions if name in topics else 0 for name in self._outputs)

    def _missing_output_partition(
        self, place: str, partition: int, topics: Mapping[str, DescribedTopic], begin: int
    ) -> StartPosition:
        too_small = [name for name in self._outputs if name not in topics or topics[name].partitions <= partition]
        wanted = topics[self._settings.transactions_topic].partitions
        message = (
            f"{place}: paused, because {', '.join(too_small)} has no partition {partition}, and outputs go to the "
            f"partition number of their input; give it at least {wanted} partitions"
        )
        return StartPosition(begin, "missing-output-partition", is_paused=True, message=message)

    def _record(self, tp: TP, checked: CheckedStart) -> None:
        previous, start = self._starts.get(tp), checked.start
        self._starts[tp] = checked
        self._metrics.partitions_paused.set(len(self.paused))
        if start.fault is None or (start.is_paused and previous == checked):
            return
        self._metrics.offset_faults.labels(start.fault).inc()
        if start.skipped and not start.is_paused:
            self._metrics.transactions_skipped.labels(start.fault).inc(start.skipped)
        log.error("%s", start.message)

    def _run_checks(self) -> None:
        checks = count()
        while not self._stopped.wait(CHECK_INTERVAL_S):
            try:
                self._check_topics()
                if next(checks) % CHECKS_PER_STABLE_END_CHECK == 0:
                    self._check_open_transactions()
            except (BrokerError, KafkaError):
                continue  # the consumer and the producer log it
            except Exception:
                log.exception("internal error while checking topics; retry in %.0f s", CHECK_INTERVAL_S)
        self._cluster.close()

    def _check_open_transactions(self) -> None:
        ends = self._cluster.stable_ends(sorted(self._starts)) if self._starts else {}
        self._metrics.records_behind_open_kafka_transactions.set(sum(end - stable for stable, end in ends.values()))
        for tp, stable, waiting in self._stable_ends.update(time.monotonic(), ends):
            log.error(
                "%s-%d: %d records wait behind a Kafka transaction that a producer left open at offset %d; find and "
                "abort it (kafka-transactions.sh find-hanging)",
                *(tp.topic, tp.partition, waiting, stable),
            )

    def _check_topics(self) -> None:
        topics = self._cluster.topics()
        topic = topics.get(self._settings.transactions_topic)
        if topic is None:
            if not self._is_topic_missing:
                self._is_topic_missing = True
                self._metrics.offset_faults.labels("missing-topic").inc()
                log.error(
                    "topic %s does not exist any more; nothing is decided until it is created (tamiz topics create)",
                    self._settings.transactions_topic,
                )
            return
        self._is_topic_missing = False
        state = (topic.id, topic.partitions, self._output_partitions(topics))
        if state != self._topic_state and self._starts:
            self.changed.set()
