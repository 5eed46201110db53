"""List states: what they hold after any records, for transactions of any time; a state never changes."""

import gc
import random
import time
from typing import Any

import numpy as np
import pytest

from schemas.rules import ListEntry
from scoring.coded_columns import CodedColumns, LevelTable
from scoring.rules.list_state import NO_HITS, SNOOZE, ListState

Model = dict[tuple[str, str, str, str | None], ListEntry]
EMPTY = np.zeros(0, np.int64)


def entry(value: str = "u1", name: str = "stolen", **settings: Any) -> ListEntry:
    form = {"field": "card", "effect": None, "reason": "because", "by": "ana", "at_ms": 1, **settings}
    return ListEntry(list=name, value=value, **form)


def random_entry(rng: random.Random) -> ListEntry:
    effect = rng.choice((None, "block", "allow", SNOOZE))
    return entry(
        f"u{rng.randrange(5)}",
        rng.choice(("stolen", "trusted")),
        field=rng.choice(("card", "city")),
        effect=effect,
        rule=rng.choice(("r1", "r2")) if effect == SNOOZE else None,
        until_ms=rng.choice((None, 10, 20)),
        removed=rng.random() < 0.4,
    )


def updated(model: Model, entries: list[ListEntry]) -> Model:
    model = dict(model)
    for each in entries:
        key = each.list, each.field, each.value, each.rule
        model.pop(key, None)
        if not each.removed:
            model[key] = each
    return model


def check(state: ListState, model: Model) -> None:
    found = {(terms.list, field, value, terms.rule): terms for field, value, terms in state.entries()}
    assert {key: (t.effect, t.until_ms) for key, t in found.items()} == {
        k: (e.effect, e.until_ms) for k, e in model.items()
    }
    assert state.n_entries == len(model)
    keys = [f"u{i}" for i in (0, 3, 1, 3, 9)]
    times = np.array([0, 10, 15, 20, 5])
    hits = state.lookup("card", keys, {"city": np.array([*reversed(keys[:-1]), None], object)}, times)
    values = {"card": keys, "city": [*reversed(keys[:-1]), None]}
    met = [
        (row, each)
        for each in model.values()
        for row, value in enumerate(values[each.field])
        if value == each.value and (each.until_ms is None or times[row] < each.until_ms)
    ]
    members = {(e.field, e.list, row) for row, e in met if e.effect != SNOOZE}
    assert {(*key, row) for key, rows in hits.members.items() for row in rows} == members
    effects = sorted((row, e.list, e.effect) for row, e in met if e.effect not in (None, SNOOZE))
    assert sorted((row, h.terms.list, h.terms.effect) for h in hits.effects for row in h.rows) == effects
    snoozes = sorted((row, e.rule) for row, e in met if e.effect == SNOOZE)
    assert sorted((row, h.terms.rule) for h in hits.snoozes for row in h.rows) == snoozes


@pytest.mark.parametrize("seed", range(60))
def test_every_state_keeps_what_it_held_while_others_are_made_from_it_and_dropped(seed: int) -> None:
    rng = random.Random(seed)
    states: list[tuple[ListState, Model]] = [(ListState(), {})]
    for _ in range(60):
        state, model = states[-1] if rng.random() < 0.9 else rng.choice(states)
        entries = [random_entry(rng) for _ in range(rng.randint(0, 4))]
        states.append((state.updated(entries), updated(model, entries)))
        if rng.random() < 0.3:
            del states[rng.randrange(len(states) - 1)]
    for state, model in states:
        check(state, model)


def test_an_entry_holds_until_its_event_time_exclusive() -> None:
    state = ListState().updated([entry(until_ms=100, effect="block")])
    hits = state.lookup("card", ["u1", "u1"], {}, np.array([99, 100]))
    assert {key: rows.tolist() for key, rows in hits.members.items()} == {("card", "stolen"): [0]}
    assert [hit.rows.tolist() for hit in hits.effects] == [[0]]


def test_levels_of_a_coded_category_are_looked_up_as_texts_are() -> None:
    table = LevelTable()
    indices = np.array([table.add(text) for text in ("Cali", None, "Lima", "Cali")])
    columns = CodedColumns(("city", "amount"), {"amount": np.ones(4)}, {"city": (indices, table)})
    state = ListState().updated([entry("Cali", field="city"), entry("Quito", field="city"), entry("1", field="amount")])
    members = state.lookup(None, [], columns, np.zeros(4, np.int64)).members
    assert {key: rows.tolist() for key, rows in members.items()} == {("city", "stolen"): [0, 3]}


def test_a_batch_that_meets_no_entry_has_no_hits() -> None:
    state = ListState().updated([entry("u1"), entry("x", field="unknown")])
    assert state.lookup("card", ["u2"], {}, np.zeros(1, np.int64)) is NO_HITS
    assert state.lookup("card", [], {}, EMPTY) is NO_HITS
    assert ListState().lookup("card", ["u1"], {}, np.zeros(1, np.int64)) is NO_HITS


def test_versions_that_no_state_reads_are_dropped() -> None:
    state = ListState().updated([entry(f"u{i}") for i in range(3)])
    for i in range(200):
        state = state.updated([entry("u0", reason=str(i)), entry("u1", removed=i % 2 == 0)])
    state = state.updated([entry("u1", removed=True), entry("u2", removed=True)])
    state = state.updated([])
    gc.collect()
    state = state.updated([])
    assert {value: len(versions) for value, versions in state._table.fields["card"].versions.items()} == {"u0": 1}
    assert not state._table.replaced


def test_one_entry_costs_as_much_in_a_state_of_fifty_thousand_as_in_a_small_one() -> None:
    small = ListState().updated([entry("a")])
    large = small.updated([entry(f"u{i}") for i in range(50_000)])

    def cost(state: ListState) -> float:
        started = time.thread_time()
        for i in range(200):
            state = state.updated([entry(f"new{i}")])
        return time.thread_time() - started

    assert min(cost(large) for _ in range(3)) < 10 * min(cost(ListState().updated([])) for _ in range(3))
