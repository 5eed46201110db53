"""Fuzzing of real workers with millions of raw records: each must become a decision or a dead letter.

Batches are encoded by hand (`chaos.fuzz.raw_batches`), with all kinds of keys, values, headers, codecs, sizes, offsets
and timestamps that the broker accepts; refused batches are only counted. No worker may end, no record may be answered
twice, and memory must stay flat.
"""

import random
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import psutil

from chaos.fuzz.fuzz_payloads import hostile_payloads
from chaos.fuzz.raw_batches import CODECS, RawProducer, RawRecord, encode_batch, encode_record, varint
from chaos.run import lag, own_topics
from chaos.worker_pool import WorkerPool, wait_until
from schemas.configuration.settings import Settings
from stream_app.decisions import dead_letters
from stream_app.decisions.decision_headers import OFFSET_HEADER
from stream_app.kafka.topic_reader import read_to_end

PARTITIONS, WORKERS = 4, 2
MAX_BATCH_BYTES = 1_000_000  # slightly less than the topic's limit
WARM_UP = 5_000  # records before memory is measured
SETTLE_TIMEOUT_S = 600.0
POLL_INTERVAL_S = 0.5  # between two measurements of memory
NAMES = (
    *(b"traceparent", b"tracestate", b"tamiz-transaction-id", b"tamiz-redriven-from", b"tamiz-truncated-value-bytes"),
    *(b"tamiz-error-code", b"__connect.errors.topic", b"__connect.errors.offset", b"ce_id", b"tamiz-offset"),
    *(b"", b"\xff\xfe", b"\xed\xa0\x80", b"\x00", b"\x1b[31m", "ñ".encode(), b"x" * 300, b"content-type"),
)
HEADER_VALUES = (None, b"", b"\x00" * 30, b"x" * 513, b"\n", b"%d" % (1 << 70))


class RawBatch(NamedTuple):
    """An encoded batch and its number of records."""

    data: bytes
    records: int


class FuzzOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """Result of the run."""

    processing_guarantee: str
    seconds: float
    records: int
    refused_batches: dict[int, int]  # by Kafka's error code
    decided: int
    dead_lettered: int
    codes: dict[str, int]  # of the dead letters
    unanswered: int
    repeated: int
    workers_ended: dict[int, int]
    memory_middle_mb: float  # of the larger worker: median of the fifth and sixth tenths of the measurements
    memory_late_mb: float  # median of the last tenth
    memory_peak_mb: float

    @property
    def kept(self) -> bool:
        """Whether every record was answered once, no worker ended, and memory stayed flat."""
        whole = not (self.unanswered or self.repeated or self.workers_ended or self.codes.get("internal-error"))
        return whole and self.memory_late_mb < 1.15 * self.memory_middle_mb


def fuzz_records(
    settings: Settings,
    bootstrap: str,
    n: int,
    seed: int,
    say: Callable[[str], None] = lambda line: None,
    workers: int = WORKERS,
) -> FuzzOutcome:
    """Send about n records to workers and check the answer to each."""
    settings = own_topics(settings, bootstrap, PARTITIONS)
    sent = [0] * PARTITIONS
    refused: Counter[int] = Counter()
    memory: list[float] = []
    started = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="tamiz-fuzz-") as folder,
        WorkerPool(settings, Path(folder), workers) as pool,
    ):
        rng = random.Random(seed)
        with RawProducer(bootstrap) as producer:
            logged, looked_at = 0, 0.0
            for batch in batches(rng, seed):
                partition = rng.randrange(PARTITIONS)
                error, offset = producer.send(settings.transactions_topic, partition, batch.data)
                if error:
                    refused[error] += 1
                else:
                    sent[partition] = offset + batch.records
                total = sum(sent)
                if not memory and total >= WARM_UP and not wait_until(lambda: lag(settings) == 0, SETTLE_TIMEOUT_S):
                    raise RuntimeError(f"no worker decided a transaction:\n{pool.tail()}")
                if total >= WARM_UP and time.monotonic() - looked_at > POLL_INTERVAL_S:
                    memory += _memory(pool)
                    looked_at = time.monotonic()
                if total - logged >= 50_000 or total >= n:
                    logged = total
                    say(f"{time.monotonic() - started:6.1f} s  {total:,} sent, {lag(settings):,} wait")
                if total >= n:
                    break

        def settled() -> bool:
            memory.extend(_memory(pool))
            time.sleep(POLL_INTERVAL_S)
            return lag(settings) == 0 or bool(pool.deaths)

        wait_until(settled, SETTLE_TIMEOUT_S)
        seconds = time.monotonic() - started
        deaths = dict(pool.deaths)
        if deaths:
            say(pool.tail())
    answers = [np.zeros(count, dtype=np.int32) for count in sent]
    decided, codes = _answered(settings, answers)
    tenth = max(1, len(memory) // 10)
    return FuzzOutcome(
        processing_guarantee=settings.processing_guarantee,
        seconds=round(seconds, 1),
        records=sum(sent),
        refused_batches=dict(refused),
        decided=decided,
        dead_lettered=sum(codes.values()),
        codes=dict(codes.most_common()),
        unanswered=int(sum((counts == 0).sum() for counts in answers)),
        repeated=int(sum((counts > 1).sum() for counts in answers)),
        workers_ended=deaths,
        memory_middle_mb=round(statistics.median(memory[4 * tenth : 6 * tenth] or memory), 1),
        memory_late_mb=round(statistics.median(memory[-tenth:]), 1),
        memory_peak_mb=round(max(memory), 1),
    )


def _memory(pool: WorkerPool) -> list[float]:
    """Memory of the largest worker, in MB; empty if there is none."""
    found = []
    for process in psutil.Process().children():
        try:
            if "tamiz" in process.cmdline():
                found.append(process.memory_info().rss / 1e6)
        except psutil.Error:
            continue
    return [max(found)] if found else []


def _answered(settings: Settings, answers: list[Any]) -> tuple[int, Counter[str]]:
    decided = 0
    codes: Counter[str] = Counter()
    for records in read_to_end(settings.bootstrap, settings.decisions_topic):
        decided += len(records)
        for record in records:
            # The first header of this name is the worker's; a producer may have sent another.
            answers[record.partition][int(next(v for n, v in record.headers if n == OFFSET_HEADER) or 0)] += 1
    for records in read_to_end(settings.bootstrap, settings.dead_letters_topic):
        for record in records:
            about = dead_letters.read(record.headers)
            assert about is not None
            answers[about.partition][about.offset] += 1
            codes[about.code] += 1
    return decided, codes


def batches(rng: random.Random, seed: int) -> Iterator[RawBatch]:
    """Endless batches; all records are distinct, by amount or key."""
    values = hostile_payloads(seed)
    number = 0
    while True:
        if rng.random() < 0.08:
            yield _strange(rng)
            continue
        codec = rng.randrange(len(CODECS))
        records = []
        for _ in range(rng.choice((1, 2, 10, 100, 500, 500, 2_000))):
            number += 1
            records.append(_record(rng, next(values), number))
        yield from _within_limit(records, codec, _timestamp(rng, codec))


def _within_limit(records: Sequence[RawRecord], codec: int, timestamp: int) -> Iterator[RawBatch]:
    """Encode records in as many batches as needed; a batch that is too large is halved."""
    body = b"".join(encode_record(record, i) for i, record in enumerate(records))
    # Random bytes hardly compress: more than twice the limit rarely fits with any codec.
    if len(body) <= MAX_BATCH_BYTES * (2 if codec else 1):
        batch = encode_batch(records, codec=codec, timestamp=timestamp, body=body)
        if len(batch) <= MAX_BATCH_BYTES:
            yield RawBatch(batch, len(records))
            return
    half = len(records) // 2
    if half:
        yield from _within_limit(records[:half], codec, timestamp)
        yield from _within_limit(records[half:], codec, timestamp)


def _timestamp(rng: random.Random, codec: int) -> int:
    now = int(time.time() * 1000)
    odd = (-1, 0, 1, 1_500_000_000, *((-1_000, -(1 << 50)) if codec else ()))
    return rng.choice(odd) if rng.random() < 0.1 else now - rng.randrange(100_000)


def _record(rng: random.Random, value: bytes | None, number: int) -> RawRecord:
    if rng.random() < 0.9:
        return RawRecord(value, b"%d" % number)
    key = (None, b"", b"k" * 4_096, b"k" * 4_097, rng.randbytes(20), rng.randbytes(8_000))[int(rng.random() * 6)]
    n = (0, 1, 1, 3, 80)[int(rng.random() * 5)]
    headers = [(NAMES[int(rng.random() * len(NAMES))], _header_value(rng)) for _ in range(n)]
    return RawRecord(value, key, headers, (0, 0, 1, -5)[int(rng.random() * 4)])


def _header_value(rng: random.Random) -> bytes | None:
    if rng.random() > 0.98:
        return rng.randbytes(20_000)
    match int(rng.random() * (len(HEADER_VALUES) + 2)):
        case 0:
            return rng.randbytes(55)
        case 1:
            return b"id-%d" % int(rng.random() * 50)
        case n:
            return HEADER_VALUES[n - 2]


def _strange(rng: random.Random) -> RawBatch:
    value = b'{"ID_USER": "%d"}' % rng.randrange(100)
    record = RawRecord(value)
    body = b"\xff\x00\x00" + varint(-7) + varint(len(value)) + value + varint(0)
    match rng.randrange(8):
        case 0:
            return RawBatch(encode_batch([record], body=varint(len(body)) + body, codec=rng.choice((0, 1, 4))), 1)
        case 1:
            return RawBatch(encode_batch([record] * 3, body=encode_record(record, 0) * 3), 3)
        case 2:
            return RawBatch(encode_batch([record], body=encode_record(record, rng.randrange(1 << 30))), 1)
        case 3:
            return RawBatch(encode_batch([RawRecord(rng.randbytes(900_000)), record]), 2)
        case 4:
            headers = [(b"h%d" % i, b"") for i in range(40_000)]
            return RawBatch(encode_batch([RawRecord(None, b"k", headers)], codec=rng.choice((0, 1, 3))), 1)
        case 5:
            return RawBatch(encode_batch([record, RawRecord(None, rng.randbytes(900_000))]), 2)
        case 6:
            return RawBatch(_compressible(rng.choice((1, 2, 3, 4)), 3), 3)
        case _:
            return RawBatch(_compressible(4, rng.choice((20, 20, 20, 150))), 3)


@cache
def _compressible(codec: int, mb: int) -> bytes:
    """A batch of three records, the second of `mb` MB, that compresses to a few kB."""
    large = b"a" * (mb << 20)
    headers = [(b"tamiz-transaction-id", large), (b"traceparent", large), (b"\xff", large)] if mb < 10 else []
    return encode_batch([RawRecord(b"1"), RawRecord(large), RawRecord(b"2", None, headers)], codec=codec)
