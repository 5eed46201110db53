"""The page's fold of rules and lists: what is in force, who changed what, and bounded lists."""

import msgspec

from schemas.log_chain import START
from schemas.rules import ListEntry, Rule, RulesetRecord, RulesFile
from scoring.rules.ruleset_log import ruleset_head
from stream_app.dashboard.rule_board import RuleBoard, differences

NIGHT = Rule(id="night", version=1, when="hour < 5", effect="review", reason="at night")


def board(*contents: RulesFile, fault: str | None = None) -> RuleBoard:
    found, head = RuleBoard(second_person=False), START
    for number, content in enumerate(contents, 1):
        record = RulesetRecord(
            number=number, change="activated", content=content, by="web:max", at_ms=number, reason="why", after=head
        )
        value = msgspec.json.encode(record)
        head = ruleset_head(record, value)
        found.add_ruleset(record, value, lambda content: fault)
    return found


def entry(value: str, at_ms: int = 0, *, removed: bool = False, name: str = "blocked-cards") -> ListEntry:
    return ListEntry(
        list=name, field="card", value=value, effect="block", reason="why", by="web:ana", at_ms=at_ms, removed=removed
    )


def test_the_history_says_what_each_ruleset_changed() -> None:
    second = msgspec.structs.replace(NIGHT, version=2, mode="live")
    view = board(RulesFile(rules=(NIGHT,)), RulesFile(rules=(second,)), RulesFile()).rules()
    assert view.number == 3
    assert view.rules == ()
    assert [row.differences for row in view.history] == [
        ("night is removed",),
        ("night: v1 becomes v2", "night: shadow becomes live"),
        ("night v1 is new, shadow: review",),
    ]


def test_a_ruleset_that_does_not_compile_is_listed_with_the_reason_and_not_in_force() -> None:
    view = board(RulesFile(rules=(NIGHT,)), fault="rule 'night': no column 'hour'").rules()
    assert view.number is None
    assert [row.refused for row in view.history] == ["rule 'night': no column 'hour'"]


def test_equal_rulesets_do_not_differ_and_many_differences_are_cut() -> None:
    many = RulesFile(rules=tuple(msgspec.structs.replace(NIGHT, id=f"r{n}") for n in range(50)))
    assert differences(many, many) == ()
    assert differences(RulesFile(), many)[-1] == "30 more"


def test_lists_hold_the_last_record_of_each_value_newest_first() -> None:
    found = RuleBoard(second_person=False, max_entries=3)
    for one in (entry("a"), entry("b"), entry("a", 5), entry("b", removed=True), entry("A-2", name="vip"), entry("c")):
        found.add_entry(one)
    view = found.lists("", "a", 10, "card")
    assert [(e.list, e.value, e.at_ms) for e in view.entries] == [("vip", "A-2", 0), ("blocked-cards", "a", 5)]
    assert [(one.name, one.entries) for one in view.lists] == [("blocked-cards", 2), ("vip", 1)]
    assert [e.value for e in found.lists("blocked-cards", "", 1, "card").entries] == ["c"]
    found.add_entry(entry("d"))
    assert (found.lists("", "", 10, None).matching, found.cut) == (3, 1)
