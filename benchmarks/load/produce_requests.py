"""Prepared Kafka requests: record batches are built before the clock starts, so that sending them costs little CPU.

A sender of a client library pays a few microseconds for every record while it sends. This one writes one request with
all partitions to a socket. Before that it only enters the time into the batches, as a producer does.
"""

import socket
import struct
import time
from array import array
from collections import deque
from collections.abc import Iterable, Sequence

from crc32c import crc32c

PRODUCE, PRODUCE_VERSION = 0, 7
TIMEOUT_MS = 30_000
TIMES_AT = 27  # of a record batch: first and last timestamp
CRC_AT = 17
CHECKED_FROM = 21  # what follows is covered by the checksum
HEADER = struct.Struct(">ihhih")
RESPONSE_PARTITION = struct.Struct(">ihqqq")
Record = tuple[bytes | None, bytes]


class ProduceRequest:
    """One request with record batches for several partitions of one topic; may be sent any number of times."""

    def __init__(self, topic: str, batches: Iterable[tuple[int, bytes]]) -> None:
        """batches: partition and record batch."""
        name = topic.encode()
        found = list(batches)
        body = bytearray(struct.pack(">hhi", -1, -1, TIMEOUT_MS))  # no Kafka transaction; acks=all
        body += struct.pack(">ih", 1, len(name)) + name + struct.pack(">i", len(found))
        self._places: list[tuple[int, int]] = []
        size = HEADER.size
        for partition, batch in found:
            body += struct.pack(">ii", partition, len(batch))
            self._places.append((size + len(body), size + len(body) + len(batch)))
            body += batch
        header = HEADER.pack(size - 4 + len(body), PRODUCE, PRODUCE_VERSION, 0, -1)  # no client id
        self._frame = bytearray(header + body)

    def stamped(self) -> bytearray:
        """The bytes to send, with the present time as the timestamp of all records."""
        now_ms = int(1e3 * time.time())
        with memoryview(self._frame) as frame:
            for start, end in self._places:
                struct.pack_into(">qq", frame, start + TIMES_AT, now_ms, now_ms)
                struct.pack_into(">I", frame, start + CRC_AT, crc32c(frame[start + CHECKED_FROM : end]))
        return self._frame


def record_batch(records: Sequence[Record]) -> bytes:
    """An uncompressed record batch of keys and values."""
    from aiokafka.record.default_records import DefaultRecordBatchBuilder

    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 30)
    for index, (key, value) in enumerate(records):
        builder.append(index, 0, key, value, [])
    return bytes(builder.build())


class ProduceConnection:
    """A connection to the only broker, which sends requests and checks that they were acknowledged."""

    def __init__(self, bootstrap: str) -> None:
        """bootstrap: host and port."""
        host, _, port = bootstrap.rpartition(":")
        self._socket = socket.create_connection((host, int(port)))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = bytearray()
        self._unanswered: deque[int] = deque()
        self.answers = array("q")  # number of the request, partition, first offset; for each batch
        self.answered = array("q")  # number of each request that was answered, and in `answered_at` the moment
        self.answered_at = array("d")

    def send(self, frame: bytearray, number: int = 0) -> None:
        """Send a request; reads answers that have arrived. number: of the request, for `answers`."""
        self._socket.sendall(frame)
        self._unanswered.append(number)
        self.read(socket.MSG_DONTWAIT)

    def finish(self) -> None:
        """Wait for all answers, and close."""
        while self._unanswered:
            self.read()
        self.close()

    def close(self) -> None:
        """Close without waiting."""
        self._socket.close()

    def read(self, flags: int = 0) -> None:
        """Read and check answers. flags: of `socket.recv`; without them it waits for one."""
        try:
            chunk = self._socket.recv(1 << 16, flags)
        except BlockingIOError:
            return
        if not chunk:
            raise ConnectionError("the broker closed the connection of the sender")
        self._received += chunk
        while len(self._received) >= 4:
            (size,) = struct.unpack_from(">i", self._received)
            if len(self._received) < 4 + size:
                return
            number = self._unanswered.popleft()  # the broker answers in the order of requests
            for partition, error, offset in answered_partitions(self._received[4 : 4 + size]):
                if error:
                    raise ConnectionError(f"partition {partition}: Kafka's error code {error}")
                self.answers.extend((number, partition, offset))
            self.answered.append(number)
            self.answered_at.append(time.monotonic())
            del self._received[: 4 + size]


def answered_partitions(answer: bytes | bytearray) -> list[tuple[int, int, int]]:
    """Partition, error code and first offset of each batch of a request; answer: without its size."""
    (name_size,) = struct.unpack_from(">h", answer, 8)  # after correlation id and number of topics
    place = 10 + name_size
    (count,) = struct.unpack_from(">i", answer, place)
    found = struct.iter_unpack(
        RESPONSE_PARTITION.format, answer[place + 4 : place + 4 + count * RESPONSE_PARTITION.size]
    )
    return [(partition, error, offset) for partition, error, offset, _, _ in found]
