"""Arguments of every peer, and the work they all do with the pure handler of the worker."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from monitoring.counting.monitored_model import MonitoredModel
from schemas.configuration.settings import load
from schemas.dataset.declaration import load_dataset
from stream_app.decisions.handler import HandlerPolicy, HandlerResult, HandlerState, handle

MAX_PARTITIONS = 4
MAX_BATCH = 1_000  # batch size of peers that work in batches
PRODUCER = {"acks": "all", "enable.idempotence": True}  # same as for the producer of the worker


class PeerRecord(NamedTuple):
    """A consumed record, as the handler reads it."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()


class Job(NamedTuple):
    """Topics and settings of a peer."""

    bootstrap: str
    transactions: str
    decisions: str
    dead_letters: str
    group: str
    within_s: float  # linger of peers that work in batches
    bundle: Path

    @classmethod
    def from_command_line(cls) -> "Job":
        """Read the command line, and clear it for frameworks that also read it."""
        *words, within_s, bundle = sys.argv[1:]
        del sys.argv[1:]
        return cls(*words, float(within_s), Path(bundle))  # type: ignore[misc,arg-type]


class Work:
    """Decode, clean, score, decide, encode; with the profiles that the data set of the settings declares."""

    def __init__(self, job: Job) -> None:
        self._model = MonitoredModel.load(job.bundle, version=1)
        dataset = load_dataset(load().dataset)
        policy = HandlerPolicy.from_settings(load({}), dataset, counting=False)
        self._policy = policy._replace(consumer_group=job.group)
        self._profiles: Any = None
        if dataset.profiles:
            from scoring.profiles.partition_profiles import PartitionProfiles
            from scoring.profiles.profile_fold import ProfileFold

            self._profiles = ProfileFold(dataset, range(MAX_PARTITIONS))
            for partition in range(MAX_PARTITIONS):
                self._profiles.assign(partition, PartitionProfiles(self._profiles.plan))

    def __call__(self, records: Sequence[Any]) -> HandlerResult:
        handled = handle(records, self._model, self._policy, HandlerState(profiles=self._profiles))
        if self._profiles is not None:
            self._profiles.commit({r.partition: r.offset + 1 for r in records})
        return handled
