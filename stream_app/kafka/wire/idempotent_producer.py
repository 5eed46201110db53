"""An idempotent producer of whole record batches: one request to each broker, for any number of topics.

The caller sends batches and awaits them before it sends others. Requests are repeated until the broker accepts them;
the sequence numbers of the batches keep a repeated one from being written twice. An error that a retry cannot cure is
raised, and the producer must not be used any more.

aiokafka's producer sends a request for each call, from a task of its own, and wakes several tasks for each batch.
"""

import asyncio
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aiokafka import errors
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError
from aiokafka.protocol.transaction import InitProducerIdRequest
from aiokafka.structs import TopicPartition

from stream_app.kafka.wire import connections
from stream_app.kafka.wire.primitives import INT32, NULL, decode_topic, encode_text
from stream_app.output.batch_writer import OutgoingBatch

MIN_RETRY_DELAY_S = 0.002  # before a request is repeated; doubles: a broker that is overloaded is asked less often
MAX_RETRY_DELAY_S = 0.1
MAX_SEQUENCE = 2**31  # sequence numbers of batches start again at 0
_PRODUCE = 0, 7  # API and its first version that takes zstd, of Kafka 2.1
_ALL_REPLICAS = -1
_SETTINGS = struct.Struct(">hii")  # replicas to wait for, timeout in ms, number of topics
_PARTITION = struct.Struct(">ii")  # number and size of the batch
_WRITTEN = struct.Struct(">ihqqq")  # partition, error, offset, time, first offset of the log

Batches = Mapping[TopicPartition, Sequence[OutgoingBatch]]


class IdempotentProducer:
    """Writes record batches: `send` returns when all in-sync replicas have them."""

    _id: str | None = None  # transactional id

    def __init__(
        self,
        connection: Mapping[str, Any],
        *,
        request_timeout_ms: int = 30_000,
        on_sent: Callable[[], None] | None = None,
    ) -> None:
        """connection: arguments of every aiokafka client. on_sent: called when a request is sent, not yet answered."""
        connections.install()
        self._on_sent = on_sent
        self._client = AIOKafkaClient(request_timeout_ms=request_timeout_ms, **connection)
        self._request_timeout_ms = request_timeout_ms
        self._producer_id = self._epoch = -1
        self._sequences: dict[TopicPartition, int] = {}

    async def start(self) -> None:
        """Connect, and get a producer id."""
        await self._client.bootstrap()
        delay_s = MIN_RETRY_DELAY_S
        while True:
            try:
                response = await self._client.send(
                    self._client.get_random_node(), InitProducerIdRequest(None, self._request_timeout_ms)
                )
                if (error_type := errors.for_code(response.error_code)) is not errors.NoError:
                    raise error_type
            except KafkaError as error:
                require_retriable(error)
                await asyncio.sleep(delay_s)
                delay_s = min(2 * delay_s, MAX_RETRY_DELAY_S)
            else:
                self._producer_id, self._epoch = response.producer_id, response.producer_epoch
                return

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def update_metadata(self) -> None:
        """Read again who leads which partition."""
        await self._client.force_metadata_update()

    async def send(self, batches: Batches) -> None:
        """Write record batches, each partition's in order; returns when all in-sync replicas have them."""
        for nth in range(max(map(len, batches.values()), default=0)):
            turn = {partition: each[nth] for partition, each in batches.items() if nth < len(each)}
            await self._send_all({partition: self._finish(partition, batch) for partition, batch in turn.items()})

    def _finish(self, partition: TopicPartition, batch: OutgoingBatch) -> bytearray:
        sequence = self._sequences.get(partition, 0)
        self._sequences[partition] = (sequence + batch.record_count()) % MAX_SEQUENCE
        return batch.encode(self._producer_id, self._epoch, sequence)

    async def _send_all(self, waiting: dict[TopicPartition, bytearray]) -> None:
        delay_s = MIN_RETRY_DELAY_S
        while waiting:
            by_leader: dict[int, dict[TopicPartition, bytearray]] = {}
            for partition, data in waiting.items():
                leader = self._client.cluster.leader_for_partition(partition)
                if leader is None:
                    await self._client._wait_on_metadata(partition.topic)
                    leader = self._client.cluster.leader_for_partition(partition)
                if leader is not None and leader >= 0:
                    by_leader.setdefault(leader, {})[partition] = data
            if len(by_leader) == 1:
                accepted = [await self._send_to(*part) for part in by_leader.items()]
            else:
                accepted = await asyncio.gather(*(self._send_to(*part) for part in by_leader.items()))
            for partition in (partition for part in accepted for partition in part):
                del waiting[partition]
            if waiting:
                await asyncio.sleep(delay_s)
                delay_s = min(2 * delay_s, MAX_RETRY_DELAY_S)
                await self._client.force_metadata_update()

    async def _send_to(self, node: int, batches: Mapping[TopicPartition, bytearray]) -> list[TopicPartition]:
        """Send batches to the leader of their partitions. Returns the partitions that were written."""
        body = _encode(self._id, self._request_timeout_ms, batches)
        try:
            connection = await connections.connect(self._client, node)
            connections.require_api(connection, _PRODUCE)
            response = connections.send(connection, _PRODUCE, body)
            if self._on_sent is not None:
                self._on_sent()
            written = _decode(await response)
        except KafkaError as error:
            require_retriable(error)
            return []
        accepted = []
        for partition, code in written:
            error_type = errors.for_code(code) if code else errors.NoError
            # A duplicate was written by an earlier attempt whose response was lost.
            if error_type in (errors.NoError, errors.DuplicateSequenceNumber):
                accepted.append(partition)
            else:
                require_retriable(error_type(f"{partition.topic}-{partition.partition}"))
        return accepted


def _encode(transactional_id: str | None, timeout_ms: int, batches: Mapping[TopicPartition, bytearray]) -> bytes:
    """A produce request of version 7."""
    topics: dict[str, list[bytes | bytearray]] = {}
    for (topic, partition), data in batches.items():
        topics.setdefault(topic, []).extend((_PARTITION.pack(partition, len(data)), data))
    parts: list[bytes | bytearray] = [
        NULL if transactional_id is None else encode_text(transactional_id),
        _SETTINGS.pack(_ALL_REPLICAS, timeout_ms, len(topics)),
    ]
    for topic, own in topics.items():
        parts += (encode_text(topic), INT32.pack(len(own) // 2), *own)
    return b"".join(parts)


def _decode(response: bytes) -> list[tuple[TopicPartition, int]]:
    """Error code of each partition, from a response of version 7."""
    found = []
    (n_topics,) = INT32.unpack_from(response, INT32.size)  # after the correlation id
    at = 2 * INT32.size
    for _ in range(n_topics):
        topic, n_partitions, at = decode_topic(response, at)
        for _ in range(n_partitions):
            partition, code, *_ = _WRITTEN.unpack_from(response, at)
            at += _WRITTEN.size
            found.append((TopicPartition(topic, partition), code))
    return found


def require_retriable(error: KafkaError) -> None:
    """Raise an error that a retry cannot cure."""
    if not error.retriable:
        raise error
