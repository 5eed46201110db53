"""Quix Streams: count and sum of one amount by key over one sliding hour, and nothing else."""

from typing import Any

from quixstreams import Application
from quixstreams.dataframe.windows import Count, Sum

from benchmarks.peers.amounts import amount_of
from benchmarks.peers.job import PRODUCER, Job


def main() -> None:
    job = Job.from_command_line()
    app = Application(
        job.bootstrap,
        consumer_group=job.group,
        auto_offset_reset="earliest",
        producer_extra_config=PRODUCER,
        state_dir=f"/tmp/{job.group}",
        loglevel="WARNING",
    )
    raw: dict[str, Any] = {"key_deserializer": "str", "value_deserializer": "bytes"}
    amounts = app.dataframe(app.topic(job.transactions, **raw)).apply(amount_of)
    windows = amounts.sliding_window(duration_ms=3_600_000).agg(count=Count(), sum=Sum()).current()
    windows.to_topic(app.topic(job.decisions, key_serializer="str", value_serializer="json"))
    app.run()


if __name__ == "__main__":
    main()
