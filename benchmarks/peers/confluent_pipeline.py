"""A pipelined loop on confluent-kafka: a batch is handled while the one before is on its way to the broker.

The producer reports failures only, so that no Python code runs for each acknowledged record; `flush` waits until all
are acknowledged. Offsets are committed without waiting, at most every `COMMIT_INTERVAL_S`, and only those of batches
that were acknowledged. First argument: the codec, `none` or e.g. `zstd`.
"""

import sys
import time
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition

from benchmarks.peers.job import PRODUCER, Job, PeerRecord, Work
from schemas.configuration.settings import load

MAX_BATCH = 2_000
COMMIT_INTERVAL_S = 0.5
LINGER_MS = 2
CONSUMER_QUEUES = {"fetch.max.bytes": 16 << 20, "queued.min.messages": 200_000, "fetch.wait.max.ms": 100}
PRODUCER_QUEUES = {
    "queue.buffering.max.messages": 1_000_000,
    "queue.buffering.max.kbytes": 1 << 20,
    "batch.size": 1_000_000,
    "batch.num.messages": 10_000,
    "linger.ms": LINGER_MS,
    "delivery.report.only.error": True,
}


def main() -> None:
    codec = {"compression.type": sys.argv.pop(1)}
    job = Job.from_command_line()
    work, features_topic = Work(job), load().feature_log_topic
    connection = {"bootstrap.servers": job.bootstrap}
    group = {"group.id": job.group, "auto.offset.reset": "earliest", "enable.auto.commit": False}
    consumer = Consumer(connection | group | CONSUMER_QUEUES)
    producer = Producer(connection | PRODUCER | PRODUCER_QUEUES | codec | {"on_delivery": failed})
    consumer.subscribe([job.transactions])
    produced: dict[int, int] = {}  # next offset by partition, of the batch that is being sent
    acknowledged: dict[int, int] = {}
    committed = time.monotonic()
    produce = producer.produce
    while True:
        messages = consumer.consume(MAX_BATCH, job.within_s)
        handled = None
        if messages:
            records = [
                PeerRecord(job.transactions, m.partition(), m.offset(), m.key(), m.value(), m.headers() or ())
                for m in messages
                if not m.error()
            ]
            handled = work(records)
        if produced:
            producer.flush()
            acknowledged |= produced
            produced = {}
        if acknowledged and time.monotonic() - committed > COMMIT_INTERVAL_S:
            offsets = [TopicPartition(job.transactions, *place) for place in acknowledged.items()]
            consumer.commit(offsets=offsets, asynchronous=True)
            acknowledged, committed = {}, time.monotonic()
        if handled is None:
            continue
        outputs = (
            (job.decisions, handled.decisions),
            (job.dead_letters, handled.dead_letters),
            (features_topic, handled.features),
        )
        for topic, outgoing in outputs:
            for out in outgoing:
                produce(topic, out.value, out.key, out.partition, headers=out.headers)
        produced = {record.partition: record.offset + 1 for record in records}


def failed(error: Any, message: Any) -> None:
    raise SystemExit(f"not produced: {error}")


if __name__ == "__main__":
    main()
