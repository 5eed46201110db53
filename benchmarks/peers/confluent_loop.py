"""A loop on confluent-kafka by hand: consume up to 1,000, handle, produce, wait for acknowledgement, commit."""

from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition

from benchmarks.peers.job import MAX_BATCH, PRODUCER, Job, PeerRecord, Work
from schemas.configuration.settings import load


def main() -> None:
    job = Job.from_command_line()
    work, features_topic = Work(job), load().feature_log_topic
    connection = {"bootstrap.servers": job.bootstrap}
    group = {"group.id": job.group, "auto.offset.reset": "earliest", "enable.auto.commit": False}
    consumer = Consumer(connection | group)
    producer = Producer(connection | PRODUCER | {"queue.buffering.max.messages": 1_000_000})
    consumer.subscribe([job.transactions])

    def acknowledged(error: Any, message: Any) -> None:
        if error:
            raise SystemExit(f"not produced: {error}")

    while True:
        messages = consumer.consume(MAX_BATCH, job.within_s)
        if not messages:
            continue
        records = [
            PeerRecord(job.transactions, m.partition(), m.offset(), m.key(), m.value(), m.headers() or ())
            for m in messages
            if not m.error()
        ]
        handled = work(records)
        outputs = (
            (job.decisions, handled.decisions),
            (job.dead_letters, handled.dead_letters),
            (features_topic, handled.features),
        )
        for topic, outgoing in outputs:
            for out in outgoing:
                producer.produce(topic, out.value, out.key, out.partition, acknowledged, headers=out.headers)
        producer.flush()
        next_offsets = {record.partition: record.offset + 1 for record in records}
        offsets = [TopicPartition(job.transactions, *place) for place in next_offsets.items()]
        consumer.commit(offsets=offsets, asynchronous=False)


if __name__ == "__main__":
    main()
