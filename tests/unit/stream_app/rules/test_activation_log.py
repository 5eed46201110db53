"""From which offset which rules hold, by the stamps of a partition."""

import msgspec
import pytest

from schemas.rules import RuleActivation
from stream_app.kafka.batches.record_columns import FetchedRecord
from stream_app.rules.activation_log import ActivationLog, RulePiece, RuleVersion, Stamp, joined_pieces, stamped_pieces


def version(ruleset: int | None = 1, lists: int = 0, rules_id: str = "r", lists_id: str = "l") -> RuleVersion:
    return RuleVersion(ruleset, rules_id, lists, lists_id)


def stamp(from_offset: int, ruleset: int = 1, lists: int = 0, rules_id: str = "r", lists_id: str = "l") -> Stamp:
    return Stamp(from_offset, version(ruleset, lists, rules_id, lists_id), ruleset, 0)


def rows(*offsets: int) -> list[FetchedRecord]:
    return [FetchedRecord("t", 0, offset, 0, None, b"", ()) for offset in offsets]


def by_version(pieces: list[RulePiece]) -> list[tuple[int | None, list[int]]]:
    return [(p.version and p.version.ruleset, [r.offset for r in p.records]) for p in pieces]


def test_a_stamp_holds_from_its_offset_to_the_next() -> None:
    log = ActivationLog.of([stamp(500, 1), stamp(900, 2)])
    found = [(offset, s and s.version.ruleset) for offset in (0, 499, 500, 899, 900) for s in [log.at(offset)]]
    assert found == [(0, None), (499, None), (500, 1), (899, 1), (900, 2)]


def test_a_stamp_replaces_those_from_its_offset_on() -> None:
    log = ActivationLog.of([stamp(500, 1), stamp(900, 2), stamp(950, 3), stamp(900, 4)])
    assert [(s.from_offset, s.version.ruleset) for s in log.stamps] == [(500, 1), (900, 4)]


@pytest.mark.parametrize(
    ("later", "is_ignored"),
    [
        (stamp(600, 1, 9), True),
        (stamp(600, 3, 2), True),
        (stamp(600, 2, 9), False),
        (stamp(600, 1, 9, rules_id="anew"), False),
        (stamp(600, 2, 0, lists_id="anew"), False),
        (stamp(600, 1, 9, rules_id=""), True),
    ],
    ids=["older rules", "older lists", "the same", "rules made anew", "lists made anew", "a broker without topic ids"],
)
def test_a_partition_does_not_go_back_to_older_rules(later: Stamp, is_ignored: bool) -> None:
    log = ActivationLog.of([stamp(500, 2, 9), later])
    assert (log.at(600) != later, log.ignored) == (is_ignored, int(is_ignored))


def test_a_batch_is_split_at_stamps() -> None:
    log = ActivationLog.of([stamp(5, 1), stamp(8, 2), stamp(20, 3)])
    assert by_version(stamped_pieces(rows(3, 4, 5, 7, 9), log)) == [(None, [3, 4]), (1, [5, 7]), (2, [9])]
    assert by_version(stamped_pieces(rows(8, 9), log)) == [(2, [8, 9])]
    assert by_version(stamped_pieces(rows(1, 2), log)) == [(None, [1, 2])]
    assert stamped_pieces([], log) == []


def test_neighbouring_pieces_of_one_version_are_joined() -> None:
    pieces = [RulePiece(version(n), rows(offset)) for n, offset in ((1, 1), (1, 5), (2, 6), (1, 7))]
    assert by_version(joined_pieces(pieces)) == [(1, [1, 5]), (2, [6]), (1, [7])]


def test_a_stamp_is_read_back_from_its_record() -> None:
    made = stamp(77, 3, 12)
    sent = made.record(4, "topic", "group")
    record = msgspec.json.decode(sent.value or b"", type=RuleActivation)
    assert (sent.partition, record.topic_id, record.group) == (4, "topic", "group")
    assert Stamp.of(record, 0) == made


def test_a_stamp_beyond_the_end_of_a_topic_is_detected_unless_the_topic_is_another_one() -> None:
    assert stamp(0, 3, 12).is_within("r", 3, "l", 12)
    assert not stamp(0, 4, 12).is_within("r", 3, "l", 12)
    assert not stamp(0, 3, 13).is_within("r", 3, "l", 12)
    assert stamp(0, 4, 13).is_within("anew", 3, "anew", 12)
