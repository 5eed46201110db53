"""A Faust app with default settings, except for raw bytes, which avoids a second JSON decoder."""

from typing import Any

import faust

from benchmarks.peers.job import Job


def app_of(job: Job) -> tuple[faust.App, Any, Any, Any]:
    """The app; its topics of transactions, decisions and dead letters."""
    app = faust.App(
        job.group,
        broker=f"kafka://{job.bootstrap}",
        datadir=f"/tmp/{job.group}",
        autodiscover=False,
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        consumer_auto_offset_reset="earliest",
        producer_acks=-1,  # its at-least-once mode offers no idempotence
    )
    raw = {"key_type": bytes, "value_type": bytes, "key_serializer": "raw", "value_serializer": "raw"}
    return app, *(app.topic(name, **raw) for name in (job.transactions, job.decisions, job.dead_letters))
