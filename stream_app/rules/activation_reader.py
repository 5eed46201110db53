"""Reads the newest stamps of partitions from the ends of `rule-activations`.

Any number of other records may follow a stamp: transaction markers, aborted writes, stamps of other groups. So the
search goes back in doubling steps until it has the stamp that holds for an offset, or the start of the topic.
"""

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import msgspec
from aiokafka import TopicPartition

from schemas.json_codec import decode
from schemas.rules import RuleActivation
from stream_app.kafka.log_reader import log_reader
from stream_app.rules.activation_log import ActivationLog, Stamp, is_ours

FIRST_LOOKBACK_RECORDS = 200


Rejection = Literal["invalid", "beyond-end"]
REJECTIONS: Mapping[Rejection, str] = {
    "invalid": "not a stamp",
    "beyond-end": "it names records that rules or lists do not have",
}


class FoundStamps(NamedTuple):
    """The stamps of a partition, as far back as they were searched."""

    log: ActivationLog
    is_complete: bool  # whether the topic holds no earlier ones, and none were deleted


async def read_activations(
    bootstrap: str,
    topic: str,
    offsets: Mapping[int, int | None],
    *,
    group: str,
    topic_id: str,
    is_plausible: Callable[[Stamp], bool],
    reject: Callable[[Rejection], None] = lambda reason: None,
) -> dict[int, FoundStamps]:
    """The stamps of partitions.

    offsets: by partition, the transaction for which a stamp is searched; None: the last stamp is enough.
    topic_id: of the input topic. is_plausible: whether a stamp names records that exist. reject: called with the reason
    for each record that is skipped.
    """
    async with log_reader(bootstrap) as consumer:
        places = [TopicPartition(topic, p) for p in sorted(offsets)]
        ends = await consumer.end_offsets(places)
        begins = await consumer.beginning_offsets(places)
        consumer.assign(places)  # no await between `assign` and `seek`, or the client starts at the earliest offset
        searched = dict(ends)  # lowest offset read so far
        stamps: dict[TopicPartition, list[Stamp]] = {place: [] for place in places}
        lookback = FIRST_LOOKBACK_RECORDS
        while open_ := [
            place
            for place in places
            if searched[place] > begins[place] and not _is_found(stamps[place], offsets[place.partition])
        ]:
            until = {place: searched[place] for place in open_}
            for place in open_:
                searched[place] = max(begins[place], ends[place] - lookback)
                consumer.seek(place, searched[place])
            read: dict[TopicPartition, list[Stamp]] = {place: [] for place in open_}
            while behind := [place for place in open_ if await consumer.position(place) < until[place]]:
                for place, records in (await consumer.getmany(*behind, timeout_ms=1000)).items():
                    for record in records:
                        if record.offset >= until[place]:
                            continue
                        stamp = _stamp(record.value, record.timestamp, group, topic_id)
                        if isinstance(stamp, Stamp) and not is_plausible(stamp):
                            stamp = "beyond-end"
                        if isinstance(stamp, Stamp):
                            read[place].append(stamp)
                        elif stamp is not None:
                            reject(stamp)
            for place, found in read.items():
                stamps[place] = found + stamps[place]
            lookback *= 2
    return {
        place.partition: FoundStamps(
            ActivationLog.of(found), is_complete=begins[place] == 0 and searched[place] <= begins[place]
        )
        for place, found in stamps.items()
    }


def _is_found(stamps: list[Stamp], offset: int | None) -> bool:
    holding = ActivationLog.of(stamps)
    return bool(holding.stamps) if offset is None else holding.at(offset) is not None


def _stamp(value: bytes | None, written_ms: int, group: str, topic_id: str) -> Stamp | Rejection | None:
    """The stamp; None for one of another group or topic; else why the record is skipped."""
    try:
        record = decode(value, RuleActivation)
    except msgspec.MsgspecError:
        return "invalid"
    return Stamp.of(record, written_ms) if is_ours(record, group=group, topic_id=topic_id) else None
