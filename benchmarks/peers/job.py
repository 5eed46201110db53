"""What every peer is told, and the work that all of them do with our own pure handler."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from monitoring.counting.monitored_model import MonitoredModel
from schemas.dataset.declaration import load_dataset
from stream_app.decisions.handler import HandlerPolicy, HandlerResult, handle

MAX_BATCH = 1_000  # records a peer that works in batches takes at once
PRODUCER = {"acks": "all", "enable.idempotence": True}  # what librdkafka's clients are told, as our producer is


class PeerRecord(NamedTuple):
    """A consumed record, as the handler reads it."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()


class Job(NamedTuple):
    """Where a peer reads and writes."""

    bootstrap: str
    transactions: str
    decisions: str
    dead_letters: str
    group: str
    within_s: float  # how long a peer that works in batches waits for more of one
    bundle: Path

    @classmethod
    def told(cls) -> "Job":
        """Read the command line, and leave nothing of it to frameworks that read it, too."""
        *words, within_s, bundle = sys.argv[1:]
        del sys.argv[1:]
        return cls(*words, float(within_s), Path(bundle))  # type: ignore[misc,arg-type]


class Work:
    """Decode, clean, score, decide, encode."""

    def __init__(self, job: Job) -> None:
        self._model = MonitoredModel.load(job.bundle, version=1)
        dataset = load_dataset("card_transactions")
        self._policy = HandlerPolicy(dataset=dataset, group=job.group, max_payload_bytes=65_536, counting=False)

    def __call__(self, records: Sequence[Any]) -> HandlerResult:
        return handle(records, self._model, self._policy)
