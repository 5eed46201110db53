"""Does an offset fit its log? Where a partition is to be read from, by what broker, group and outputs say. Pure.

Offsets are never trusted alone: a log can be shorter than the group's offset (truncation, a restored or mirrored
topic), begin behind it (retention), have no offset (they expire when a group is away), or be another log of that name.
"""

from typing import Literal, NamedTuple, get_args

from schemas.configuration.setting_types import OffsetReset

Fault = Literal[
    "beyond-end",  # the offset is larger than the log is long
    "retention",  # the log begins behind the offset
    "expired",  # the group has no offset, and the outputs hold its answers
    "made-anew",  # the topic was deleted and made again
    "foreign-offset",  # another program committed an offset that is not where our answers end
    "missing-topic",  # the topic is not there
    "missing-output-partition",  # an output topic has fewer partitions than the input
]
FAULTS: tuple[Fault, ...] = get_args(Fault)
MARK = "tamiz topic_id="  # how the metadata of our own commits begins


class Log(NamedTuple):
    """One partition's log as the broker has it now."""

    topic_id: str  # incarnation of the topic; empty where the broker gives none
    begin: int  # offset of its first record
    end: int  # offset of the next record to be written


class Committed(NamedTuple):
    """What the group committed for a partition."""

    offset: int  # next to read
    topic_id: str | None  # incarnation it was committed for; None: another program committed it


class Answered(NamedTuple):
    """Where the answers of this group end, by the outputs themselves."""

    offset: int  # next to decide
    topic_id: str  # incarnation that the last of them was read from


class Start(NamedTuple):
    """Where a partition is to be read from, and what was wrong."""

    offset: int
    fault: Fault | None = None
    skipped: int = 0  # records that will not be decided, at most
    held: bool = False  # do not read it
    message: str = ""  # one line, with the remedy


def metadata(topic_id: str) -> str:
    """What a commit of ours carries besides its offset.

    >>> read_metadata(metadata("hT2xNq8vR1iQz5aYb0cDeg"))
    'hT2xNq8vR1iQz5aYb0cDeg'
    """
    return MARK + topic_id


def read_metadata(text: str | None) -> str | None:
    """The incarnation that a commit was made for; None when the commit is not ours."""
    return text.removeprefix(MARK) if text and text.startswith(MARK) else None


def start(place: str, log: Log, committed: Committed | None, answered: Answered | None, reset: OffsetReset) -> Start:
    """Where to begin.

    place: `topic-partition`, for the message. committed: None when the group has no offset. answered: what the outputs
    say; only needed where the group's offset is missing or not ours. reset: the policy where something could be lost
    or repeated.
    """
    if committed is None:
        if answered is None:
            return Start(log.begin)  # a new group
        if not same_topic(answered.topic_id, log.topic_id):
            return _made_anew(place, log, answered.topic_id, reset)
        return _expired(place, log, answered, reset)
    if committed.topic_id is not None and not same_topic(committed.topic_id, log.topic_id):
        return _made_anew(place, log, committed.topic_id, reset)
    found = _within(place, log, committed.offset, reset)
    if found.fault is None and committed.topic_id is None and answered is not None:
        return _foreign(place, log, committed.offset, answered)
    return found


def same_topic(a: str, b: str) -> bool:
    """Whether two topic ids may be the same incarnation; a broker that gives none cannot say."""
    return a == b or not a or not b


def _within(place: str, log: Log, offset: int, reset: OffsetReset) -> Start:
    if offset > log.end:
        what = f"{place}: the committed offset {offset} is beyond the log's end {log.end} (truncated, or restored?)"
        return _by_policy("beyond-end", what, log, skipped=log.end - log.begin, reset=reset)
    if offset < log.begin:
        lost = log.begin - offset
        what = f"{place}: retention deleted {lost} records from {offset} to {log.begin - 1} before they were decided"
        if reset == "stop":
            return _by_policy("retention", what, log, skipped=lost, reset=reset)
        return Start(log.begin, "retention", lost, message=f"{what}; going on at {log.begin}")
    return Start(offset)


def _made_anew(place: str, log: Log, before: str, reset: OffsetReset) -> Start:
    what = f"{place}: the topic was made anew (its id was {before or 'not known'}, it is {log.topic_id or 'not known'})"
    return _by_policy("made-anew", what, log, skipped=log.end - log.begin, reset=reset)


def _expired(place: str, log: Log, answered: Answered, reset: OffsetReset) -> Start:
    what = f"{place}: the group has no offset, though its answers go up to {answered.offset - 1} (did it expire?)"
    if reset == "from-beginning":
        return Start(log.begin, "expired", message=f"{what}; deciding again from {log.begin}, as offset_reset says")
    found = _within(place, log, answered.offset, reset)
    if found.fault is not None:
        return found._replace(message=f"{what}; {found.message}")
    going_on = f"going on at {answered.offset}; raise the broker's offsets.retention.minutes"
    return Start(answered.offset, "expired", message=f"{what}; {going_on}")


def _foreign(place: str, log: Log, offset: int, answered: Answered) -> Start:
    if offset == answered.offset or not same_topic(answered.topic_id, log.topic_id):
        return Start(offset)
    what = f"{place}: another program committed offset {offset}, our answers end before {answered.offset}"
    skipped = max(0, offset - answered.offset)
    result = f"{skipped} records are skipped" if skipped else f"{answered.offset - offset} records are decided again"
    return Start(offset, "foreign-offset", skipped, message=f"{what}: going on there, {result}")


def _by_policy(fault: Fault, what: str, log: Log, *, skipped: int, reset: OffsetReset) -> Start:
    if reset == "from-beginning":
        return Start(log.begin, fault, message=f"{what}; deciding from the beginning, {log.begin}")
    if reset == "skip-and-count":
        return Start(log.end, fault, skipped, message=f"{what}; going on at {log.end}, up to {skipped} records skipped")
    remedy = (
        "the partition is held: set offset_reset to skip-and-count or from-beginning and restart the workers, or stop "
        "them and commit the offset that you want (kafka-consumer-groups.sh --reset-offsets)"
    )
    return Start(log.begin, fault, held=True, message=f"{what}; {remedy}")
