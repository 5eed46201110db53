"""Quix Streams: a streaming data frame, one event at a time, at-least-once."""

from typing import Any

from quixstreams import Application, message_context

from benchmarks.peers.job import PRODUCER, Job, PeerRecord, Work
from stream_app.output.outgoing_records import OutgoingRecord


def main() -> None:
    job = Job.from_command_line()
    work = Work(job)

    def decide(value: bytes, key: bytes, timestamp: int, headers: Any) -> tuple[bool, OutgoingRecord]:
        place = message_context()
        handled = work([PeerRecord(job.transactions, place.partition, place.offset, key, value, headers or ())])
        return bool(handled.decisions), (handled.decisions or handled.dead_letters)[0]

    app = Application(
        job.bootstrap,
        consumer_group=job.group,
        auto_offset_reset="earliest",
        auto_create_topics=False,
        producer_extra_config=PRODUCER,
        state_dir=f"/tmp/{job.group}",
        loglevel="WARNING",
    )
    raw: dict[str, Any] = {"key_deserializer": "bytes", "key_serializer": "bytes"}
    raw |= {"value_deserializer": "bytes", "value_serializer": "bytes"}
    decided = app.dataframe(app.topic(job.transactions, **raw)).apply(decide, metadata=True)
    decided = decided.set_headers(lambda found, key, timestamp, headers: found[1].headers)
    for is_decision, topic in ((True, job.decisions), (False, job.dead_letters)):
        wanted = decided.filter(lambda found, is_decision=is_decision: found[0] is is_decision)
        wanted.apply(lambda found: found[1].value).to_topic(app.topic(topic, **raw))
    app.run()


if __name__ == "__main__":
    main()
