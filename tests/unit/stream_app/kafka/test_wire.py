"""Requests that are encoded here are those of aiokafka, and responses are read as aiokafka reads them."""

import asyncio
import random
import struct
from collections import deque
from io import BytesIO
from typing import Any

import pytest
import uvloop
from aiokafka.errors import CorrelationIdError, KafkaError
from aiokafka.protocol.fetch import FetchRequest, FetchRequest_v11, FetchResponse_v11
from aiokafka.protocol.produce import ProduceRequest, ProduceRequest_v7, ProduceResponse_v7
from aiokafka.structs import TopicPartition

from stream_app.kafka.wire import connections, idempotent_producer
from stream_app.kafka.wire.batch_fetcher import decode_response, encode_request

PARTITIONS = [TopicPartition(topic, partition) for topic in ("transactions", "tópico") for partition in (0, 1, 63)]


def test_a_fetch_request_has_the_bytes_of_aiokafka_s() -> None:
    (place,) = places = [TopicPartition("transactions", 3)]
    theirs = FetchRequest(1500, 1, 52_428_800, 1, [(place.topic, [(place.partition, 1 << 40, 4096)])])
    encoded = encode_request(dict.fromkeys(places, 1 << 40), (1500, 1, 52_428_800, 1), 4096)
    assert encoded == theirs.build(FetchRequest_v11).encode()


def test_a_fetch_request_names_each_partition_once_by_topic() -> None:
    offsets = {place: i for i, place in enumerate(PARTITIONS)}
    read = FetchRequest_v11.decode(BytesIO(encode_request(offsets, (1500, 1, 1 << 20, 0), 4096)))
    found = {TopicPartition(topic, own[0]): own[2] for topic, wanted in read.topics for own in wanted}
    assert found == offsets
    assert len(read.topics) == 2


def test_a_fetch_response_is_read_as_aiokafka_reads_it() -> None:
    draw = random.Random(3)
    for _ in range(200):
        topics = []
        expected = []
        for topic in ("transactions", "tópico")[: draw.choice((0, 1, 2))]:
            own = []
            for partition in draw.sample(range(100), draw.choice((0, 1, 5))):
                aborted = draw.choice((None, [], [(7, 1), (8, 1 << 40)]))
                data = draw.choice((None, b"", draw.randbytes(50)))
                code = draw.choice((0, 0, 1, 3))
                own.append((partition, code, 9, 8, 7, aborted, -1, data))
                place = TopicPartition(topic, partition)
                expected.append((place, code, 9, 8, aborted or [], data or b""))
            topics.append((topic, own))
        encoded = struct.pack(">i", 5) + FetchResponse_v11(0, 0, 0, topics).encode()
        found = [(*fetched[:-2], encoded[fetched.start : fetched.end]) for fetched in decode_response(encoded)]
        assert found == expected


def test_an_error_of_a_whole_fetch_is_raised() -> None:
    with pytest.raises(KafkaError, match="71"):
        list(decode_response(struct.pack(">i", 5) + FetchResponse_v11(0, 71, 0, []).encode()))


@pytest.mark.parametrize("transactional_id", [None, "workers.transactions.3"])
def test_a_produce_request_has_the_bytes_of_aiokafka_s(transactional_id: str | None) -> None:
    batches = {place: bytearray(b"batch %d" % i) for i, place in enumerate(PARTITIONS)}
    topics: dict[str, list[tuple[int, bytes]]] = {}
    for place, data in batches.items():
        topics.setdefault(place.topic, []).append((place.partition, bytes(data)))
    theirs = ProduceRequest(transactional_id, -1, 30_000, list(topics.items())).build(ProduceRequest_v7)
    assert idempotent_producer._encode(transactional_id, 30_000, batches) == theirs.encode()


def test_a_produce_response_is_read_as_aiokafka_reads_it() -> None:
    topics = [("decisions", [(3, 0, 70, -1, 0), (0, 45, -1, -1, -1)]), ("tópico", [(1, 6, -1, -1, -1)])]
    encoded = struct.pack(">i", 5) + ProduceResponse_v7(topics, 0).encode()
    assert idempotent_producer._decode(encoded) == [
        (TopicPartition(topic, partition), code) for topic, own in topics for partition, code, *_ in own
    ]


class Connection:
    """What `FrameProtocol` uses of aiokafka's connection."""

    host, port = "broker", 9092

    def __init__(self, requests: list[tuple[int, Any, Any]], closed: "asyncio.Future[None]") -> None:
        self._requests = deque(requests)
        self._closed_fut = closed
        self.frames: list[bytes] = []
        self.closed_for: list[Any] = []

    def _handle_frame(self, frame: bytes) -> None:
        self.frames.append(frame)
        self._requests.popleft()

    def close(self, reason: Any, exc: Any) -> None:
        self.closed_for.append(exc)


def received(chunks: list[bytes], requests: int, encoded: set[int]) -> tuple[Connection, list[Any]]:
    """A connection after it received chunks as responses to requests, and what those got that are encoded here."""

    async def story() -> tuple[Connection, list[Any]]:
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in range(requests)]
        kinds = [connections._ENCODED if i in encoded else object() for i in range(requests)]
        connection = Connection(list(zip(range(requests), kinds, futures, strict=True)), loop.create_future())
        protocol = connections.FrameProtocol(connection)  # type: ignore[arg-type]
        for chunk in chunks:
            protocol.data_received(chunk)
        protocol.connection_lost(None)
        return connection, [future.result() if future.done() else None for future in futures]

    return asyncio.run(story())


def test_responses_are_the_same_however_the_stream_is_cut() -> None:
    draw = random.Random(5)
    bodies = [b"", b"x", draw.randbytes(300), b"", draw.randbytes(5_000)]
    frames = [struct.pack(">i", i) + body for i, body in enumerate(bodies)]
    stream = b"".join(struct.pack(">i", len(frame)) + frame for frame in frames)
    for _ in range(200):
        cuts = sorted(draw.sample(range(1, len(stream)), draw.choice((0, 1, 3, 20))))
        chunks = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
        connection, results = received(chunks, len(frames), {1, 2, 4})
        assert connection.frames == [frames[0], frames[3]]
        assert results == [None, frames[1], frames[2], None, frames[4]]
        assert connection.closed_for == [None]


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_responses_arrive_over_a_socket_in_both_kinds_of_event_loop(factory: Any) -> None:
    frames = [struct.pack(">i", i) + b"x" * size for i, size in enumerate((0, 70_000, 1))]

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for frame in frames:
            writer.write(struct.pack(">i", len(frame)) + frame)
        await writer.drain()
        writer.close()

    async def story() -> tuple[list[bytes], list[Any]]:
        loop = asyncio.get_running_loop()
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        futures = [loop.create_future() for _ in frames]
        closed = loop.create_future()
        requests = [(i, connections._ENCODED, future) for i, future in enumerate(futures)]
        connection = Connection(requests, closed)
        transport, _ = await loop.create_connection(asyncio.Protocol, *server.sockets[0].getsockname()[:2])
        transport.set_protocol(connections.FrameProtocol(connection))
        received = await asyncio.gather(*futures)
        await closed
        server.close()
        return received, connection.closed_for

    with asyncio.Runner(loop_factory=factory) as runner:
        assert runner.run(story()) == (frames, [None])


@pytest.mark.parametrize("frame", [struct.pack(">i", 7), b"\0", b""])
def test_a_response_to_another_request_closes_the_connection(frame: bytes) -> None:
    connection, results = received([struct.pack(">i", len(frame)) + frame], 1, {0})
    assert results == [None]
    assert isinstance(connection.closed_for[0], CorrelationIdError | struct.error)


def test_a_response_without_a_request_closes_the_connection() -> None:
    connection, _ = received([struct.pack(">ii", 4, 0)], 0, set())
    assert isinstance(connection.closed_for[0], CorrelationIdError)
