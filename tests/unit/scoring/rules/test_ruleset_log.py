"""The history of rulesets: which records it holds, and which one is in force."""

from typing import Literal

import msgspec
import pytest

from schemas.log_chain import START, Head
from schemas.rules import Rule, RulesetRecord, RulesFile
from scoring.rules.ruleset_log import RulesetLog, ruleset_head


def content(name: str = "r") -> RulesFile:
    return RulesFile(rules=(Rule(id=name, version=1, when="score > 0.5", effect="review", reason="high score"),))


def add(
    log: RulesetLog,
    rules: RulesFile | None = None,
    *,
    change: Literal["proposed", "activated"] = "activated",
    by: str = "os:ana@h",
    proposal: int | None = None,
    after: Head | None = None,
    second_person: bool = False,
) -> RulesetLog:
    follows = log.head if after is None else after
    record = RulesetRecord(
        number=follows.number + 1,
        change=change,
        content=content() if rules is None else rules,
        by=by,
        at_ms=1_700_000_000_000,
        reason="burst",
        proposal=proposal,
        after=follows,
    )
    return log.updated(
        record,
        msgspec.json.encode(record),
        second_person=second_person,
        compile_fault=lambda rules: "does not compile" if any(r.id == "broken" for r in rules.rules) else None,
    )


def in_force(log: RulesetLog) -> int | None:
    return log.in_force.record.number if log.in_force else None


def test_the_last_activation_is_in_force() -> None:
    log = add(add(RulesetLog()), content("s"))
    assert in_force(log) == 2
    assert log.head == log.entries[-1].head
    assert in_force(add(log, change="proposed")) == 2


def test_of_two_records_after_the_same_one_the_later_is_refused_and_the_chain_goes_on() -> None:
    log = add(RulesetLog())
    log = add(add(log, by="os:bo@h"), by="os:ana@h", after=log.head)
    assert in_force(log) == 2
    assert log.in_force is not None
    assert log.in_force.record.by == "os:bo@h"
    assert log.entries[-1].refused == "follows record 1, but record 2 is the last: two people wrote at once"
    assert in_force(add(log)) == 3


def test_a_record_that_follows_a_changed_one_is_refused() -> None:
    log = add(RulesetLog())
    assert add(log, after=Head(number=1, sha256="f" * 64)).entries[-1].in_chain is False


def test_a_ruleset_that_does_not_compile_leaves_the_one_before_in_force_and_later_ones_follow_it() -> None:
    log = add(add(RulesetLog()), content("broken"))
    assert in_force(log) == 1
    assert log.entries[-1].refused == "does not compile"
    assert in_force(add(log)) == 3


@pytest.mark.parametrize(
    ("approval", "refused"),
    [
        ({"proposal": 1, "by": "web:bo"}, None),
        ({"proposal": 1, "by": "os:ana@h"}, "os:ana@h proposed it, and another person must approve it"),
        ({"by": "web:bo"}, "not approved by a second person"),
        ({"proposal": 1, "by": "web:bo", "rules": content("other")}, "its content differs from proposal 1"),
    ],
    ids=str,
)
def test_where_a_second_person_is_required_only_an_approval_takes_effect(
    approval: dict[str, object], refused: str | None
) -> None:
    proposed = add(RulesetLog(), change="proposed", second_person=True)
    log = add(proposed, second_person=True, **approval)  # type: ignore[arg-type]
    found = log.entries[-1].refused
    assert (found or "").startswith(refused or "")
    assert (found is None) == (refused is None)
    assert in_force(log) == (2 if refused is None else None)


def test_an_approval_of_an_activation_is_refused() -> None:
    assert (
        add(add(RulesetLog()), proposal=1, by="web:bo").entries[-1].refused == "approves record 1, which is no proposal"
    )


def test_proposals_are_open_until_the_next_activation() -> None:
    log = add(add(RulesetLog(), change="proposed"), content("s"), change="proposed")
    assert [e.record.number for e in log.open_proposals()] == [1, 2]
    assert add(log).open_proposals() == []


def test_the_head_depends_on_number_and_bytes() -> None:
    record = add(RulesetLog()).entries[0].record
    value = msgspec.json.encode(record)
    heads = {ruleset_head(record, value), ruleset_head(record, value + b" "), ruleset_head(record, b"\xff"), START}
    assert len(heads) == 4
