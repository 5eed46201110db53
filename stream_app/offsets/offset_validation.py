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


class PartitionLog(NamedTuple):
    """The range of offsets of one partition."""

    topic_id: str  # Kafka's id of the topic; empty if the broker gives none
    begin: int  # offset of its first record
    end: int  # offset of the next record to be written


class CommittedOffset(NamedTuple):
    """The group's committed offset of a partition."""

    offset: int  # next to read
    topic_id: str | None  # topic id it was committed for; None: committed by another program


class OutputEnd(NamedTuple):
    """Where this group's decisions and dead letters end, read from the output topics."""

    offset: int  # next to decide
    topic_id: str  # topic id of the input that the last one belongs to


class StartPosition(NamedTuple):
    """Where to start reading a partition, and which fault was found."""

    offset: int
    fault: Fault | None = None
    skipped: int = 0  # upper bound of records that are not decided
    is_paused: bool = False  # do not read the partition
    message: str = ""  # one line, with the remedy


def commit_metadata(topic_id: str) -> str:
    """The metadata of a commit for a topic id.

    >>> read_metadata(commit_metadata("hT2xNq8vR1iQz5aYb0cDeg"))
    'hT2xNq8vR1iQz5aYb0cDeg'
    """
    return METADATA_PREFIX + topic_id


def read_metadata(text: str | None) -> str | None:
    """The topic id that a commit was made for; None for a commit of another program."""
    return text.removeprefix(METADATA_PREFIX) if text and text.startswith(METADATA_PREFIX) else None


def start_position(
    place: str,
    log: PartitionLog,
    committed: CommittedOffset | None,
    output_end: OutputEnd | None,
    reset: OffsetReset,
) -> StartPosition:
    """Where to start reading a partition.

    place: `topic-partition`, for the message. committed: None if the group has no offset. output_end: end of the
    group's output; only needed if the offset is missing or was committed by another program. reset: the setting
    `offset_reset`, applied where records could be lost or repeated.
    """
    if committed is None:
        if output_end is None:
            return StartPosition(log.begin)  # a new group
        if not is_same_topic(output_end.topic_id, log.topic_id):
            return _recreated(place, log, output_end.topic_id, reset)
        return _expired(place, log, output_end, reset)
    if committed.topic_id is not None and not is_same_topic(committed.topic_id, log.topic_id):
        return _recreated(place, log, committed.topic_id, reset)
    found = _within(place, log, committed.offset, reset)
    if found.fault is None and committed.topic_id is None and output_end is not None:
        return _committed_elsewhere(place, log, committed.offset, output_end)
    return found


def is_same_topic(a: str, b: str) -> bool:
    """Whether two topic ids may name the same topic. True if one is empty, because the broker gives none."""
    return a == b or not a or not b


def _within(place: str, log: PartitionLog, offset: int, reset: OffsetReset) -> StartPosition:
    if offset > log.end:
        finding = f"{place}: committed offset {offset} is beyond the log's end {log.end} (truncated or restored topic?)"
        return _by_policy("beyond-end", finding, log, skipped=log.end - log.begin, reset=reset)
    if offset < log.begin:
        lost = log.begin - offset
        finding = f"{place}: retention deleted {lost} records from {offset} to {log.begin - 1} before they were decided"
        if reset == "stop":
            return _by_policy("retention", finding, log, skipped=lost, reset=reset)
        return StartPosition(log.begin, "retention", lost, message=f"{finding}; resuming at {log.begin}")
    return StartPosition(offset)


def _recreated(place: str, log: PartitionLog, before: str, reset: OffsetReset) -> StartPosition:
    finding = (
        f"{place}: the topic was recreated (its id was {before or 'not known'}, it is {log.topic_id or 'not known'})"
    )
    return _by_policy("topic-recreated", finding, log, skipped=log.end - log.begin, reset=reset)


def _expired(place: str, log: PartitionLog, output_end: OutputEnd, reset: OffsetReset) -> StartPosition:
    finding = f"{place}: the group has no offset, but its decisions go up to {output_end.offset - 1} (offset expired?)"
    if reset == "from-beginning":
        return StartPosition(log.begin, "expired", message=f"{finding}; deciding again from {log.begin} (offset_reset)")
    found = _within(place, log, output_end.offset, reset)
    if found.fault is not None:
        return found._replace(message=f"{finding}; {found.message}")
    remedy = f"resuming at {output_end.offset}; raise the broker's offsets.retention.minutes"
    return StartPosition(output_end.offset, "expired", message=f"{finding}; {remedy}")


def _committed_elsewhere(place: str, log: PartitionLog, offset: int, output_end: OutputEnd) -> StartPosition:
    if offset == output_end.offset or not is_same_topic(output_end.topic_id, log.topic_id):
        return StartPosition(offset)
    finding = f"{place}: another program committed offset {offset}, but decisions end before {output_end.offset}"
    skipped = max(0, offset - output_end.offset)
    result = f"{skipped} records are skipped" if skipped else f"{output_end.offset - offset} records are decided again"
    return StartPosition(offset, "foreign-offset", skipped, message=f"{finding}; resuming at {offset}, {result}")


def _by_policy(fault: Fault, finding: str, log: PartitionLog, *, skipped: int, reset: OffsetReset) -> StartPosition:
    if reset == "from-beginning":
        return StartPosition(log.begin, fault, message=f"{finding}; deciding from the beginning, {log.begin}")
    if reset == "skip-and-count":
        return StartPosition(
            log.end, fault, skipped, message=f"{finding}; resuming at {log.end}, up to {skipped} records skipped"
        )
    remedy = (
        "the partition is paused: set offset_reset to skip-and-count or from-beginning and restart the workers, or "
        "stop them and commit an offset (kafka-consumer-groups.sh --reset-offsets)"
    )
    return StartPosition(log.begin, fault, is_paused=True, message=f"{finding}; {remedy}")
