"""From which input offset of a partition which rules and lists hold: the stamps on `rule-activations`. Pure.

    offsets   0 ........ 500 ........ 900 ........
    stamps    none       A            B             500 to 899 meet the rules of A

A stamp replaces all those from its offset on: their transactions were not decided, or are decided again. A stamp with
older rules or lists than the one before it is ignored: a worker that lost the partition wrote it.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from schemas.rules import RuleActivation
from stream_app.kafka.batches.record_columns import join_records, split_records
from stream_app.offsets.offset_validation import is_same_topic
from stream_app.output.outgoing_records import OutgoingRecord


def log_id(topic_id: str, begin: int) -> str:
    """Names what a topic of rules or lists holds: other records if its first ones were deleted.

    begin: offset of its first record.

    >>> log_id("hT2xNq8vR1iQz5aYb0cDeg", 0), log_id("hT2xNq8vR1iQz5aYb0cDeg", 7)
    ('hT2xNq8vR1iQz5aYb0cDeg', 'hT2xNq8vR1iQz5aYb0cDeg@7')
    """
    return f"{topic_id}@{begin}" if begin else topic_id


class RuleVersion(NamedTuple):
    """Names a state of rules and lists. Equal versions name equal states."""

    ruleset: int | None  # number of the record in force
    rules_topic_id: str
    lists_offset: int  # after the last entry
    lists_topic_id: str

    @property
    def is_empty(self) -> bool:
        """Whether there was neither a ruleset nor an entry."""
        return self.ruleset is None and self.lists_offset == 0


class Stamp(NamedTuple):
    """A `RuleActivation`, and when it was written."""

    from_offset: int
    version: RuleVersion
    rules_offset: int
    written_ms: int

    @classmethod
    def of(cls, record: RuleActivation, written_ms: int) -> "Stamp":
        """The stamp of a record."""
        version = RuleVersion(record.ruleset, record.rules_topic_id, record.lists_offset, record.lists_topic_id)
        return cls(record.from_offset, version, record.rules_offset, written_ms)

    def record(self, partition: int, topic_id: str, group: str) -> OutgoingRecord:
        """The record of this stamp. topic_id: of the input topic."""
        value = RuleActivation(
            from_offset=self.from_offset,
            topic_id=topic_id,
            group=group,
            ruleset=self.version.ruleset,
            rules_offset=self.rules_offset,
            rules_topic_id=self.version.rules_topic_id,
            lists_offset=self.version.lists_offset,
            lists_topic_id=self.version.lists_topic_id,
        )
        return OutgoingRecord(partition, None, msgspec.json.encode(value), [])

    def is_within(self, rules_topic_id: str, rules_end: int, lists_topic_id: str, lists_end: int) -> bool:
        """Whether topics that end at these offsets have what it names. Those of another id cannot be compared."""
        version = self.version
        return (self.rules_offset <= rules_end or not is_same_topic(version.rules_topic_id, rules_topic_id)) and (
            version.lists_offset <= lists_end or not is_same_topic(version.lists_topic_id, lists_topic_id)
        )

    def is_older_than(self, other: "Stamp") -> bool:
        """Whether it has older rules or lists. Offsets of different topics are not compared."""
        mine, theirs = self.version, other.version
        return (
            is_same_topic(mine.rules_topic_id, theirs.rules_topic_id) and self.rules_offset < other.rules_offset
        ) or (is_same_topic(mine.lists_topic_id, theirs.lists_topic_id) and mine.lists_offset < theirs.lists_offset)


NO_STAMP = Stamp(0, RuleVersion(None, "", 0, ""), 0, 0)  # holds before the first one: no rules and lists


class ActivationLog(NamedTuple):
    """The stamps of a partition that hold, by offset."""

    stamps: tuple[Stamp, ...] = ()
    ignored: int = 0  # stamps with older rules than the one before

    @classmethod
    def of(cls, stamps: Iterable[Stamp]) -> "ActivationLog":
        """The log of stamps in the order of their topic."""
        log = cls()
        for stamp in stamps:
            log = log.updated(stamp)
        return log

    def updated(self, stamp: Stamp) -> "ActivationLog":
        """With the next stamp of the topic."""
        if self.stamps and stamp.is_older_than(self.stamps[-1]):
            return self._replace(ignored=self.ignored + 1)
        kept = self.stamps
        while kept and kept[-1].from_offset >= stamp.from_offset:
            kept = kept[:-1]
        return self._replace(stamps=(*kept, stamp))

    def at(self, offset: int) -> Stamp | None:
        """The stamp that holds for a transaction; None before the first one."""
        return next((stamp for stamp in reversed(self.stamps) if stamp.from_offset <= offset), None)


class RulePiece(NamedTuple):
    """Records of a batch that meet the same rules."""

    version: RuleVersion | None  # None: before the first stamp, without rules and lists
    records: Sequence[Any]


def stamped_pieces(records: Sequence[Any], log: ActivationLog) -> list[RulePiece]:
    """Records of a partition, in offset order, by the stamps that hold for them."""
    pieces: list[RulePiece] = []
    held: RuleVersion | None = None
    for stamp in log.stamps:
        below, records = split_records(records, stamp.from_offset)
        if below:
            pieces.append(RulePiece(held, below))
        held = stamp.version
    return [*pieces, RulePiece(held, records)] if records else pieces


def joined_pieces(pieces: Sequence[RulePiece]) -> list[RulePiece]:
    """The pieces, in order, with neighbours of one version joined."""
    found: list[tuple[RuleVersion | None, list[Sequence[Any]]]] = []
    for version, records in pieces:
        if found and found[-1][0] == version:
            found[-1][1].append(records)
        else:
            found.append((version, [records]))
    return [RulePiece(version, join_records(parts)) for version, parts in found]


def is_ours(record: RuleActivation, *, group: str, topic_id: str) -> bool:
    """Whether a stamp is of this consumer group and of this incarnation of the input topic."""
    return record.group == group and is_same_topic(record.topic_id, topic_id)
