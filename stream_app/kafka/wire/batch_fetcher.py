"""A fetcher for `RecordBatchConsumer`: it sends a fetch request when records are wanted, and keeps few tasks.

aiokafka's fetcher has a task for each request, and one that waits for all of them, so that a fetch wakes four tasks. It
decodes each response into a tree of objects. Here a response is read where it arrives. aiokafka's own task remains for
what is rare: positions that have to be looked up, missing leaders, other assignments.

Internals of aiokafka 0.14.0 that this relies on (tests: tests/contract/test_faust_contract.py): of `Fetcher`
`_get_actions_per_node`, `_records`, `_fetch_waiters`, `_create_fetch_waiter`, `_notify`, `_set_error`,
`_wait_consume_future`, `_subscriptions`, `_closed`, and its settings; of a partition's state `position`,
`has_valid_position`, `paused`, `highwater`, `lso`, `timestamp`. Its classes `PartitionRecords` and `FetchResult` are
those of `stream_app.kafka.aiokafka_patch`.
"""

import asyncio
import functools
import logging
import random
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from aiokafka import errors
from aiokafka.client import ConnectionGroup
from aiokafka.consumer import consumer, fetcher
from aiokafka.structs import TopicPartition

from stream_app.kafka.aiokafka_patch import FetchedBatches, PlainResult
from stream_app.kafka.wire import connections
from stream_app.kafka.wire.primitives import INT32, decode_topic, encode_text

# A fetch request is answered as soon as there is one record. Under steady traffic each answer would hold a few records,
# and each costs the same however few. So requests keep a distance, which adds half of it to the median latency. A
# record that arrives after a pause does not wait: the request is at the broker already.
MIN_FETCH_INTERVAL_S = 0.008  # between two requests to a broker

log = logging.getLogger("tamiz.kafka")
_FETCH = 1, 11  # API and its version, of Kafka 2.3
# Replica, time to wait, least and greatest number of bytes, isolation level, session and its epoch: none, and the
# number of topics.
_SETTINGS = struct.Struct(">iiiibiii")
_NO_REPLICA, _NO_SESSION, _NO_EPOCH = -1, 0, -1
_END = struct.pack(">ih", 0, 0)  # topics to forget, and the rack: none
_WANTED = struct.Struct(">iiqqi")  # partition, leader's epoch, offset, first offset of the log, number of bytes
_UNKNOWN = -1
_HEAD = struct.Struct(">iihii")  # correlation id, throttle time, error, session, number of topics
_FETCHED = struct.Struct(">ihqqqi")  # partition, error, high watermark, last stable and first offset, aborted ones
_ABORTED = struct.Struct(">qq")  # producer, first offset
_RECORDS = struct.Struct(">ii")  # preferred replica, number of bytes

Positions = Mapping[TopicPartition, int]


class FetchedPartition(NamedTuple):
    """What a response holds of a partition."""

    partition: TopicPartition
    error_code: int
    highwater: int
    last_stable_offset: int
    aborted: list[tuple[int, int]]  # producer, first offset
    start: int  # of its record batches in the response
    end: int


class BatchFetcher(fetcher.Fetcher):  # type: ignore[misc]  # aiokafka has no types
    """aiokafka's fetcher, except for sending and reading."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._sent: dict[int, Any] = {}  # node -> assignment of the request that is not yet answered
        self._next_s: dict[int, float] = {}  # node -> time of the event loop at which a request may be sent
        self._failure: Exception | None = None
        super().__init__(*args, **options)

    def _get_actions_per_node(self, assignment: Any) -> Any:
        """Called by aiokafka's task whenever something may have changed: no request, but `fetched_records` may send."""
        _, *others = super()._get_actions_per_node(assignment)
        self._wake()
        return [], *others

    async def next_record(self, partitions: Any) -> Any:
        """One record."""
        while not (found := await self.fetched_records(partitions, timeout=1.0, max_records=1)):
            if self._closed:
                raise errors.ConsumerStoppedError
        return next(iter(found.values()))[0]

    async def fetched_records(
        self, partitions: Any, timeout: float = 0, max_records: int | None = None
    ) -> dict[TopicPartition, Sequence[Any]]:
        """Records by partition, as soon as there are any, or none after a time."""
        end_s = self._loop.time() + timeout
        while True:
            if self._subscriptions.reassignment_in_progress:
                await self._subscriptions.wait_for_assignment()
            if found := self._take(partitions, max_records):
                return found
            if self._failure is not None:
                raise self._failure
            if self._closed or self._loop.time() >= end_s:
                return {}
            waiter = self._create_fetch_waiter()
            timer = self._loop.call_at(min(end_s, self._send_requests()), self._notify, waiter)
            try:
                await waiter
            finally:
                timer.cancel()

    def _take(self, partitions: Any, max_records: int | None) -> dict[TopicPartition, Sequence[Any]]:
        """As in aiokafka: what was fetched of some partitions. Raises the error of one, if there are no records."""
        taken: dict[TopicPartition, Sequence[Any]] = {}
        left = max_records
        for tp in list(self._records):
            if partitions and tp not in partitions:
                if not self._subscriptions.is_assigned(tp):
                    del self._records[tp]
                continue
            found = self._records[tp]
            if isinstance(found, fetcher.FetchError):
                if not taken:
                    del self._records[tp]
                    self._notify(self._wait_consume_future)
                    found.check_raise()
                break
            records = found.getall(left)
            if not found.has_more():
                del self._records[tp]
            if records:
                taken[tp] = records
                if left is not None:
                    left -= len(records)
                    if left == 0:
                        break
        return taken

    def _send_requests(self) -> float:
        """Send a request to each broker that may have one now. Returns when to look again, by the event loop's time."""
        again_s = float("inf")
        subscription = self._subscriptions.subscription
        assignment = subscription.assignment if subscription is not None else None
        if assignment is None or not assignment.active:
            return again_s
        now_s = self._loop.time()
        by_node: dict[int, dict[TopicPartition, int]] = {}
        for tp in assignment.tps:
            state = assignment.state_value(tp)
            if state.paused or not state.has_valid_position or tp in self._records:
                continue
            node = self._client.cluster.leader_for_partition(tp)
            if node is not None and node >= 0:
                by_node.setdefault(node, {})[tp] = state.position
        for node, positions in by_node.items():
            if self._sent.get(node) is assignment:
                continue
            if (next_s := self._next_s.get(node, 0.0)) > now_s:
                again_s = min(again_s, next_s)
                continue
            self._next_s[node] = now_s + MIN_FETCH_INTERVAL_S
            self._sent[node] = assignment
            connection = self._client._conns.get((node, ConnectionGroup.DEFAULT))
            if connection is not None and connection.connected():
                self._send(node, assignment, positions, connection)
            else:
                connecting = asyncio.ensure_future(connections.connect(self._client, node))
                connecting.add_done_callback(functools.partial(self._on_connection, node, assignment, positions))
        return again_s

    def _send(self, node: int, assignment: Any, positions: Positions, connection: Any) -> None:
        body = encode_request(
            positions,
            (self._fetch_max_wait_ms, self._fetch_min_bytes, self._fetch_max_bytes, self._isolation_level),
            self._max_partition_fetch_bytes,
        )
        try:
            connections.require_api(connection, _FETCH)
            response = connections.send(connection, _FETCH, body)
        except errors.KafkaError as error:
            self._fail(node, assignment, error)
        else:
            response.add_done_callback(functools.partial(self._on_response, node, assignment, positions))

    def _on_connection(
        self, node: int, assignment: Any, positions: Positions, connecting: "asyncio.Future[Any]"
    ) -> None:
        if connecting.cancelled():
            return
        if (error := connecting.exception()) is not None:
            self._fail(node, assignment, error)
        else:
            self._send(node, assignment, positions, connecting.result())

    def _on_response(self, node: int, assignment: Any, positions: Positions, response: "asyncio.Future[bytes]") -> None:
        if response.cancelled():
            return
        if (error := response.exception()) is not None:
            self._fail(node, assignment, error)
            return
        if self._sent.get(node) is assignment:
            del self._sent[node]
        if self._closed or not assignment.active:
            return
        try:
            data = response.result()
            for fetched in decode_response(data):
                self._keep(fetched, data, assignment, positions)
        except Exception as error:  # `fetched_records` raises it
            self._failure = error
        self._wake()

    def _fail(self, node: int, assignment: Any, error: BaseException) -> None:
        if self._sent.get(node) is assignment:
            del self._sent[node]
        if self._closed:
            return
        if not isinstance(error, errors.KafkaError) or isinstance(error, errors.IncompatibleBrokerVersion):
            self._failure = error if isinstance(error, Exception) else RuntimeError(repr(error))
        else:
            log.error("fetching from node %s failed: %s", node, error)
            self._next_s[node] = self._loop.time() + self._retry_backoff
            self._client.force_metadata_update()
        self._wake()

    def _keep(self, fetched: FetchedPartition, response: bytes, assignment: Any, positions: Positions) -> None:
        """Keep what was fetched of a partition until it is taken."""
        tp, code, highwater, last_stable_offset, aborted, start, end = fetched
        state = assignment.state_value(tp)
        if not state.has_valid_position or state.position != positions[tp]:
            return  # it was sought elsewhere
        if code:
            self._keep_error(tp, errors.for_code(code), state.position)
            return
        state.highwater, state.lso, state.timestamp = highwater, last_stable_offset, int(1000 * time.time())
        if start == end:
            return
        if found := PlainResult.read(tp, assignment, FetchedBatches(response, start, end)):
            self._records[tp] = found
            return
        records = FetchedBatches(response, start, end)
        if records.has_next():
            partition_records = fetcher.PartitionRecords(
                *(tp, records, aborted, state.position, None, None, self._check_crcs, self._isolation_level)
            )
            self._records[tp] = fetcher.FetchResult(
                tp, partition_records=partition_records, assignment=assignment, backoff=self._prefetch_backoff
            )

    def _keep_error(self, tp: TopicPartition, error_type: type[errors.KafkaError], position: int) -> None:
        if error_type in (errors.NotLeaderForPartitionError, errors.UnknownTopicOrPartitionError):
            self._client.force_metadata_update()
        elif error_type is errors.OffsetOutOfRangeError:
            log.info("offset %d of %s-%d is out of range", position, *tp)
            self._set_error(tp, error_type({tp: position}))
        elif error_type is errors.TopicAuthorizationFailedError:
            log.warning("not authorized to read topic %s", tp.topic)
            self._set_error(tp, error_type(tp.topic))
        else:
            log.warning("fetching %s-%d failed: %s", *tp, error_type.__name__)

    def _wake(self) -> None:
        for waiter in self._fetch_waiters:
            self._notify(waiter)


def encode_request(positions: Positions, settings: tuple[int, int, int, int], max_partition_bytes: int) -> bytes:
    """A fetch request of version 11. settings: ms to wait, least and greatest number of bytes, isolation level."""
    by_topic: dict[str, list[bytes]] = {}
    for tp, offset in positions.items():
        wanted = _WANTED.pack(tp.partition, _UNKNOWN, offset, _UNKNOWN, max_partition_bytes)
        by_topic.setdefault(tp.topic, []).append(wanted)
    parts = [_SETTINGS.pack(_NO_REPLICA, *settings, _NO_SESSION, _NO_EPOCH, len(by_topic))]
    for topic, own in by_topic.items():
        random.shuffle(own)  # a response ends after a number of bytes, and no partition may always be the last
        parts += (encode_text(topic), INT32.pack(len(own)), *own)
    return b"".join((*parts, _END))


def decode_response(response: bytes) -> Iterator[FetchedPartition]:
    """What a response of version 11 holds of each partition. Raises KafkaError for an error of the whole response."""
    _, _, code, _, n_topics = _HEAD.unpack_from(response)
    if code:
        raise errors.for_code(code)
    at = _HEAD.size
    for _ in range(n_topics):
        topic, n_partitions, at = decode_topic(response, at)
        for _ in range(n_partitions):
            partition, code, highwater, last_stable_offset, _, n_aborted = _FETCHED.unpack_from(response, at)
            at += _FETCHED.size
            aborted = []
            for _ in range(n_aborted):  # -1 for null
                aborted.append(_ABORTED.unpack_from(response, at))
                at += _ABORTED.size
            _, size = _RECORDS.unpack_from(response, at)
            at += _RECORDS.size
            end = at + max(0, size)  # -1 for null
            yield FetchedPartition(
                TopicPartition(topic, partition), code, highwater, last_stable_offset, aborted, at, end
            )
            at = end


def install() -> None:
    """Have aiokafka's consumers use it that are created from now on."""
    connections.install()
    consumer.Fetcher = BatchFetcher
