"""A compiled ruleset gives what a row-by-row interpreter of the same trees gives, on arbitrary columns."""

import os
import random

import numpy as np
import pytest

from schemas.dataset.declaration import load_dataset
from schemas.rules import ListEntry, Rule, RulesFile
from scoring.rules.list_state import ListState
from scoring.rules.program import FALSE, TRUE, UNKNOWN
from scoring.rules.program_loop import ROWS_PER_BLOCK
from scoring.rules.ruleset import CompiledRuleset, RuleInputs, compile_ruleset
from tests.helpers.rule_expressions import (
    KEY,
    KEYS,
    LEVELS,
    LISTS,
    TEXTS,
    coded,
    random_columns,
    random_condition,
)
from tests.helpers.rule_interpreter import Lists, truth

CARD = load_dataset("card_transactions")
RULESETS = int(os.environ.get("TAMIZ_FUZZ_RULES", "2000")) // 50
TRUTHS = {False: FALSE, None: UNKNOWN, True: TRUE}


def ruleset(*conditions: str, **settings: str) -> CompiledRuleset:
    rules = [
        Rule(id=f"r{i}", version=1, when=when, effect="review", reason="", **{"mode": "live", **settings})  # type: ignore[arg-type]
        for i, when in enumerate(conditions)
    ]
    return compile_ruleset(RulesFile(rules=tuple(rules)), CARD)


def entry(name: str, field: str, value: str, **settings: object) -> ListEntry:
    return ListEntry(list=name, field=field, value=value, reason="", by="", at_ms=0, **{"effect": None, **settings})  # type: ignore[arg-type]


def random_lists(rng: random.Random) -> tuple[ListState, Lists]:
    chosen = {
        (field, name): set(rng.sample(values, 2))
        for field, values in [(KEY, KEYS), *((t, LEVELS) for t in TEXTS)]
        for name in LISTS
    }
    entries = [entry(name, field, value) for (field, name), values in chosen.items() for value in values]
    return ListState().updated(entries), chosen


@pytest.mark.parametrize("seed", range(RULESETS))
def test_compiled_rules_give_what_an_interpreter_gives(seed: int) -> None:
    rng = random.Random(seed)
    compiled = ruleset(*(random_condition(rng, rng.randint(0, 3)) for _ in range(rng.randint(1, 40))))
    lists, chosen = random_lists(rng)
    n = rng.choice((0, 1, 20, ROWS_PER_BLOCK - 1, ROWS_PER_BLOCK, 2 * ROWS_PER_BLOCK + 3))
    columns, keys, scores = random_columns(rng, n)
    times = np.zeros(n, np.int64)
    values = {**{name: column.tolist() for name, column in columns.items()}, KEY: keys, "score": scores.tolist()}
    rows = [{name: column[i] for name, column in values.items()} for i in range(n)]
    expected = [[TRUTHS[truth(condition, row, chosen)] for row in rows] for condition in compiled.conditions]
    for form in (columns, coded(columns)):
        hits = lists.lookup(KEY, keys, form, times)
        found = compiled.evaluate(RuleInputs(form, keys, scores, times, hits))
        assert found.shape == (len(compiled.rules), n)
        assert found.tolist() == expected
