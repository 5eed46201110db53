"""Precedence over columns gives what a plain function gives for each transaction."""

import os
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.records import MAX_MATCHES, RuleMatch
from schemas.rules import Rule
from scoring.decision import DECIDERS, OUTCOMES
from scoring.rules.precedence import EFFECTS, EntryMatch, RuleTable, Ruling, decide_by_rules
from scoring.rules.program import SNOOZED, TRUE, UNKNOWN

CASES = int(os.environ.get("TAMIZ_FUZZ_RULES", "2000")) // 20  # make fuzz-rules
MODES = ("live", "shadow", "off")


class RuledBatch(NamedTuple):
    """A batch: the model's outcomes, rules with their truths, and entries of lists that match."""

    model_outcomes: list[int]
    rules: list[Rule]
    truth: list[list[int]]  # of each rule for each transaction
    entries: list[EntryMatch]


def rule(number: int, effect: str, mode: str = "live") -> Rule:
    return Rule(id=f"r{number}", version=number + 1, when="true", effect=effect, reason=f"because {number}", mode=mode)  # type: ignore[arg-type]


def entry(name: str, effect: str) -> RuleMatch:
    return RuleMatch(kind="list", name=name, version=None, effect=effect, mode="live", reason=f"on {name}")  # type: ignore[arg-type]


@st.composite
def cases(draw: st.DrawFn) -> RuledBatch:
    n, n_rules = draw(st.integers(0, 8)), draw(st.integers(0, 30))
    modes = st.sampled_from(MODES)
    rules = [rule(i, draw(st.sampled_from(EFFECTS)), draw(modes)) for i in range(n_rules)]
    likely = st.sampled_from(draw(st.sampled_from([[0], [0, 0, 0, 1, 2], [2], [0, 1, 2, 3]])))
    truth = [[0 if r.mode == "off" else draw(likely) for _ in range(n)] for r in rules]
    rows = (
        st.sets(st.integers(0, n - 1), min_size=1).map(lambda found: np.array(sorted(found), np.intp))
        if n
        else st.nothing()
    )
    names = st.sampled_from(["cards", "shops"])
    made = st.builds(EntryMatch, rows, st.builds(entry, names, st.sampled_from(EFFECTS)))
    return RuledBatch(
        draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)),
        rules,
        truth,
        draw(st.lists(made, max_size=4 if n else 0)),
    )


def decided_plainly(case: RuledBatch, row: int) -> tuple[str, str, list[RuleMatch], int]:
    """Outcome, who decided, the matches that a decision names, and the number of those that it does not name."""
    table = RuleTable.of(case.rules)
    of_rules = [match for match, truth in zip(table.matches, case.truth, strict=True) if truth[row] == TRUE]
    of_lists = sorted((e.match for e in case.entries if row in e.rows), key=lambda match: (match.name, match.reason))
    matches = [*of_lists, *of_rules]
    live = [m for m in matches if m.mode == "live"]
    shadow = [m for m in matches if m.mode == "shadow"]
    ordered = [
        m for effect in EFFECTS for kind in ("list", "rule") for m in live if (m.effect, m.kind) == (effect, kind)
    ]
    outcome, by = OUTCOMES[case.model_outcomes[row]], "model"
    if ordered:
        strongest = ordered[0]
        if strongest.effect == "block":
            outcome, by = "decline", strongest.kind
        elif strongest.effect == "allow":
            outcome, by = "approve", strongest.kind
        elif OUTCOMES.index(strongest.effect) > OUTCOMES.index(outcome):
            outcome, by = strongest.effect, strongest.kind
    ordered += shadow
    return outcome, by, ordered[:MAX_MATCHES], len(ordered[MAX_MATCHES:])


def decided(case: RuledBatch) -> Ruling:
    truth = np.array(case.truth, np.uint8).reshape(len(case.rules), len(case.model_outcomes))
    outcomes = np.array(case.model_outcomes, np.intp)
    return decide_by_rules(outcomes, truth, RuleTable.of(case.rules), case.entries)


@settings(max_examples=CASES)
@given(cases())
def test_precedence_over_columns_is_that_of_a_plain_function_row_by_row(case: RuledBatch) -> None:
    ruling = decided(case)
    omitted = 0
    for row in range(len(case.model_outcomes)):
        outcome, by, matches, more = decided_plainly(case, row)
        assert (OUTCOMES[ruling.outcomes[row]], DECIDERS[ruling.deciders[row]]) == (outcome, by)
        assert list(ruling.matches.of_row(row)) == matches
        assert by in ("model", *(match.kind for match in matches[:1])), "the deciding one comes first"
        assert (row in ruling.blocked) == any(m.effect == "block" and m.mode == "live" for m in matches)
        omitted += more
    assert ruling.omitted == omitted


@given(cases())
def test_every_rule_is_counted_whether_or_not_it_decides(case: RuledBatch) -> None:
    counts = decided(case).counts
    assert counts is not None
    for i, truth in enumerate(case.truth):
        found = counts.matched[i], counts.unknown[i], counts.snoozed[i]
        assert found == (truth.count(TRUE), truth.count(UNKNOWN), truth.count(SNOOZED))


@pytest.mark.parametrize(
    ("model", "effects", "outcome", "by"),
    [
        ("approve", ["review"], "review", "rule"),
        ("decline", ["review"], "decline", "model"),  # a review never softens
        ("review", ["challenge", "review"], "challenge", "rule"),
        ("review", ["review"], "review", "model"),  # the rule changes nothing
        ("decline", ["allow", "decline"], "approve", "rule"),
        ("approve", ["allow", "block"], "decline", "rule"),
        ("decline", ["block"], "decline", "rule"),
        ("approve", ["allow"], "approve", "rule"),
    ],
)
def test_the_strongest_effect_wins(model: str, effects: list[str], outcome: str, by: str) -> None:
    case = RuledBatch([OUTCOMES.index(model)], [rule(i, e) for i, e in enumerate(effects)], [[2]] * len(effects), [])
    ruling = decided(case)
    assert (OUTCOMES[ruling.outcomes[0]], DECIDERS[ruling.deciders[0]]) == (outcome, by)


def test_an_entry_of_a_list_comes_before_a_rule_with_the_same_effect_and_both_are_named() -> None:
    ruling = decided(RuledBatch([0], [rule(0, "block")], [[2]], [EntryMatch(np.array([0]), entry("cards", "block"))]))
    assert DECIDERS[ruling.deciders[0]] == "list"
    assert [m.name for m in ruling.matches.of_row(0)] == ["cards", "r0"]
