"""Checks whether a committed offset fits its log, and decides where to start a partition. Pure.

A log can end before the group's offset (truncation, a restored or mirrored topic), begin after it (retention), have no
offset (offsets of an inactive group expire), or be a recreated topic of the same name.
"""

from typing import Literal, NamedTuple, get_args

from schemas.configuration.setting_types import OffsetReset

Fault = Literal[
    "beyond-end",  # the offset is beyond the log's end
    "retention",  # the log begins after the offset
    "expired",  # the group has no offset, but the output topics hold its decisions
    "topic-recreated",  # the topic was deleted and created again
    "foreign-offset",  # another program committed an offset that differs from the end of this group's output
    "missing-topic",  # the topic does not exist
    "missing-output-partition",  # an output topic has fewer partitions than the input
]
FAULTS: tuple[Fault, ...] = get_args(Fault)
METADATA_PREFIX = "tamiz topic_id="  # of the metadata of Tamiz' own commits


class Log(NamedTuple):
    """The current log of one partition."""

    topic_id: str  # Kafka's id of the topic; empty if the broker gives none
    begin: int  # offset of its first record
    end: int  # offset of the next record to be written


class Committed(NamedTuple):
    """The group's committed offset of a partition."""

    offset: int  # next to read
    topic_id: str | None  # topic id it was committed for; None: committed by another program


class Answered(NamedTuple):
    """Where this group's decisions and dead letters end, read from the output topics."""

    offset: int  # next to decide
    topic_id: str  # topic id that the last one was read from


class Start(NamedTuple):
    """Where to start reading a partition, and which fault was found."""

    offset: int
    fault: Fault | None = None
    skipped: int = 0  # upper bound of records that are not decided
    is_paused: bool = False  # do not read the partition
    message: str = ""  # one line, with the remedy


def metadata(topic_id: str) -> str:
    """The metadata of a commit for a topic id.

    >>> read_metadata(metadata("hT2xNq8vR1iQz5aYb0cDeg"))
    'hT2xNq8vR1iQz5aYb0cDeg'
    """
    return METADATA_PREFIX + topic_id


def read_metadata(text: str | None) -> str | None:
    """The topic id that a commit was made for; None for a commit of another program."""
    return text.removeprefix(METADATA_PREFIX) if text and text.startswith(METADATA_PREFIX) else None


def start(place: str, log: Log, committed: Committed | None, answered: Answered | None, reset: OffsetReset) -> Start:
    """Where to start reading a partition.

    place: `topic-partition`, for the message. committed: None if the group has no offset. answered: end of the group's
    output; only needed if the offset is missing or was committed by another program. reset: the setting
    `offset_reset`, applied where records could be lost or repeated.
    """
    if committed is None:
        if answered is None:
            return Start(log.begin)  # a new group
        if not is_same_topic(answered.topic_id, log.topic_id):
            return _recreated(place, log, answered.topic_id, reset)
        return _expired(place, log, answered, reset)
    if committed.topic_id is not None and not is_same_topic(committed.topic_id, log.topic_id):
        return _recreated(place, log, committed.topic_id, reset)
    found = _within(place, log, committed.offset, reset)
    if found.fault is None and committed.topic_id is None and answered is not None:
        return _foreign(place, log, committed.offset, answered)
    return found


def is_same_topic(a: str, b: str) -> bool:
    """Whether two topic ids may name the same topic. True if one is empty, because the broker gives none."""
    return a == b or not a or not b


def _within(place: str, log: Log, offset: int, reset: OffsetReset) -> Start:
    if offset > log.end:
        what = f"{place}: committed offset {offset} is beyond the log's end {log.end} (truncated or restored topic?)"
        return _by_policy("beyond-end", what, log, skipped=log.end - log.begin, reset=reset)
    if offset < log.begin:
        lost = log.begin - offset
        what = f"{place}: retention deleted {lost} records from {offset} to {log.begin - 1} before they were decided"
        if reset == "stop":
            return _by_policy("retention", what, log, skipped=lost, reset=reset)
        return Start(log.begin, "retention", lost, message=f"{what}; resuming at {log.begin}")
    return Start(offset)


def _recreated(place: str, log: Log, before: str, reset: OffsetReset) -> Start:
    what = f"{place}: the topic was recreated (its id was {before or 'not known'}, it is {log.topic_id or 'not known'})"
    return _by_policy("topic-recreated", what, log, skipped=log.end - log.begin, reset=reset)


def _expired(place: str, log: Log, answered: Answered, reset: OffsetReset) -> Start:
    what = f"{place}: the group has no offset, but its decisions go up to {answered.offset - 1} (offset expired?)"
    if reset == "from-beginning":
        return Start(log.begin, "expired", message=f"{what}; deciding again from {log.begin} (offset_reset)")
    found = _within(place, log, answered.offset, reset)
    if found.fault is not None:
        return found._replace(message=f"{what}; {found.message}")
    remedy = f"resuming at {answered.offset}; raise the broker's offsets.retention.minutes"
    return Start(answered.offset, "expired", message=f"{what}; {remedy}")


def _foreign(place: str, log: Log, offset: int, answered: Answered) -> Start:
    if offset == answered.offset or not is_same_topic(answered.topic_id, log.topic_id):
        return Start(offset)
    what = f"{place}: another program committed offset {offset}, but decisions end before {answered.offset}"
    skipped = max(0, offset - answered.offset)
    result = f"{skipped} records are skipped" if skipped else f"{answered.offset - offset} records are decided again"
    return Start(offset, "foreign-offset", skipped, message=f"{what}; resuming at {offset}, {result}")


def _by_policy(fault: Fault, what: str, log: Log, *, skipped: int, reset: OffsetReset) -> Start:
    if reset == "from-beginning":
        return Start(log.begin, fault, message=f"{what}; deciding from the beginning, {log.begin}")
    if reset == "skip-and-count":
        return Start(log.end, fault, skipped, message=f"{what}; resuming at {log.end}, up to {skipped} records skipped")
    remedy = (
        "the partition is paused: set offset_reset to skip-and-count or from-beginning and restart the workers, or "
        "stop them and commit an offset (kafka-consumer-groups.sh --reset-offsets)"
    )
    return Start(log.begin, fault, is_paused=True, message=f"{what}; {remedy}")
