"""The state of rules as a fold over the records of both topics."""

from typing import Literal

import msgspec

from schemas.dataset.declaration import load_dataset
from schemas.log_chain import START, Head
from schemas.rules import ListEntry, Rule, RulesetRecord, RulesFile
from scoring.rules.rule_state import RuleFold
from scoring.rules.ruleset_log import ruleset_head

DATASET = load_dataset("card_transactions")
AT_MS = 1_700_000_000_000


def ruleset(
    number: int,
    after: Head = START,
    when: str = "score > 0.5",
    *,
    by: str = "os:ana@h",
    change: Literal["proposed", "activated"] = "activated",
    proposal: int | None = None,
) -> tuple[RulesetRecord, bytes]:
    rule = Rule(id="r", version=1, when=when, effect="review", reason="high", mode="live")
    record = RulesetRecord(
        number=number, change=change, content=RulesFile(rules=(rule,)), by=by, at_ms=AT_MS, reason="burst",
        proposal=proposal, after=after,
    )  # fmt: skip
    return record, msgspec.json.encode(record)


def chain(*whens: str) -> list[tuple[RulesetRecord, bytes]]:
    found: list[tuple[RulesetRecord, bytes]] = []
    for number, when in enumerate(whens, 1):
        found.append(ruleset(number, ruleset_head(*found[-1]) if found else START, when))
    return found


def entry(value: str, **changes: object) -> ListEntry:
    made = ListEntry(
        list="stolen", field=DATASET.key, value=value, effect="block", reason="burst", by="web:bo", at_ms=AT_MS
    )
    return msgspec.structs.replace(made, **changes)


def test_a_state_does_not_change_when_later_records_are_folded() -> None:
    fold = RuleFold(DATASET, second_person=False)
    assert fold.state.is_empty
    fold.add_rulesets(chain("score > 0.1"))
    fold.add_entries([entry("a")])
    before = fold.state
    fold.add_rulesets(chain("score > 0.1", "score > 0.2")[1:])
    fold.add_entries([entry("a", removed=True)])
    after = fold.state
    assert (before.number, after.number) == (1, 2)
    assert before.ruleset is not None
    assert before.ruleset.rules[0].when == "score > 0.1"
    assert len(before.lists.find(DATASET.key, "a")) == 1
    assert after.lists.find(DATASET.key, "a") == ()
    assert not before.is_empty


def test_records_give_the_same_state_at_once_and_one_by_one() -> None:
    records = chain("score > 0.1", "no_such_field > 1", "score > 0.3", "score >", "1 + score")
    at_once = RuleFold(DATASET, second_person=False)
    at_once.add_rulesets(records)
    one_by_one = RuleFold(DATASET, second_person=False)
    refused = [found.refused for record in records for found in one_by_one.add_rulesets([record])]
    assert at_once.state.number == one_by_one.state.number == 3
    assert at_once.log.head == one_by_one.log.head
    assert [bool(line) for line in refused] == [False, True, False, True, True]
    assert "no_such_field" in (refused[1] or "")


def test_without_an_activation_that_compiles_the_one_before_stays_in_force() -> None:
    fold = RuleFold(DATASET, second_person=False)
    records = chain("score > 0.1", "score >", "score >")
    fold.add_rulesets(records[:1])
    found = fold.add_rulesets(records[1:])
    assert all(each.refused for each in found)
    assert fold.state.number == 1
    assert fold.state.ruleset is not None


def test_an_approval_in_the_same_batch_as_its_proposal_takes_effect() -> None:
    proposed = ruleset(1, change="proposed")
    approved = ruleset(2, ruleset_head(*proposed), by="web:bo", proposal=1)
    fold = RuleFold(DATASET, second_person=True)
    assert [each.refused for each in fold.add_rulesets([proposed, approved])] == [None, None]
    assert fold.state.number == 2


def test_a_chain_whose_first_records_were_deleted_begins_with_the_first_one_left() -> None:
    records = chain("score > 0.1", "score > 0.2", "score > 0.3")
    fold = RuleFold(DATASET, second_person=False)
    fold.add_rulesets(records[1:])
    assert fold.state.number == 3
    assert [found.refused is None for found in fold.add_rulesets(records[:1])] == [False]


def test_an_earlier_ruleset_can_be_had_again_unless_its_record_is_gone() -> None:
    fold = RuleFold(DATASET, second_person=False)
    fold.add_rulesets(chain("score > 0.1", "score >", "score > 0.3"))
    lists = fold.state.lists
    earlier = fold.with_ruleset(1, lists)
    assert earlier is not None
    assert earlier.ruleset is not None
    assert earlier.ruleset.rules[0].when == "score > 0.1"
    assert fold.with_ruleset(None, lists) == (None, None, lists)
    assert fold.with_ruleset(2, lists) is None
    assert fold.with_ruleset(9, lists) is None
    fold.forget_rulesets()
    assert fold.with_ruleset(1, lists) is None
    assert fold.state.is_empty
