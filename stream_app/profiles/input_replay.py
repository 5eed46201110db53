"""Folds a range of an input partition again, without deciding anything: what a snapshot does not hold.

The records are cleaned as those that are decided, by the same code. So the profiles are those of a worker that has
decided them.
"""

from collections.abc import Callable, Sequence
from typing import Any

from aiokafka import TopicPartition

from scoring.profiles.partition_profiles import PartitionProfiles, PartitionUpdate
from scoring.profiles.profile_inputs import profile_inputs
from scoring.profiles.profile_plan import ProfilePlan
from stream_app.decisions.handler import HandlerPolicy, clean_records
from stream_app.kafka.batches.record_columns import split_records
from stream_app.kafka.log_reader import log_reader

MAX_POLL_RECORDS = 2_000  # more make cleaning slower, not faster: the columns no longer fit the processor's cache
POLL_TIMEOUT_MS = 500


def fold_records(
    profiles: PartitionProfiles, plan: ProfilePlan, policy: HandlerPolicy, records: Sequence[Any], next_offset: int
) -> PartitionUpdate:
    """Fold records of one partition that are decided already. next_offset: after the last of them."""
    cleaned, _ = clean_records(records, policy)
    return profiles.update(profile_inputs(plan, cleaned), next_offset)


async def replay(
    bootstrap: str,
    topic: str,
    partition: int,
    *,
    until: Callable[[], int | None],
    first: Callable[[int], int],
    fold: Callable[[Sequence[Any], int], None],
) -> None:
    """Read a partition up to an offset.

    until: the offset before which to end; None to give up. first: the offset to start from, for the first offset of
    the log. fold: called with records and the offset after them. Raises KafkaError if the broker does not respond.
    """
    async with log_reader(bootstrap) as consumer:
        place = TopicPartition(topic, partition)
        begin = (await consumer.beginning_offsets([place]))[place]
        consumer.assign([place])  # no await between `assign` and `seek`, or the client starts at the earliest offset
        consumer.seek(place, first(begin))
        while (end := until()) is not None and await consumer.position(place) < end:
            found = await consumer.getmany(place, timeout_ms=POLL_TIMEOUT_MS, max_records=MAX_POLL_RECORDS)
            records: Sequence[Any] = found.get(place, ())
            if records and records[-1].offset >= end:
                records, _ = split_records(records, end)
            if records:
                fold(records, min(await consumer.position(place), end))
            elif (await consumer.end_offsets([place]))[place] < end:
                return  # the log is shorter now; the worker's own consumer finds that, too
