"""CPU time of a hundred rules a transaction, with lists and profiles, compared with zen-engine and rule-engine.

    .venv-bench/bin/python -m benchmarks.rules.rule_engines

The same rules on the same rows in one process, alternating. All must match the same rules. The peers get what costs
them most for nothing: rows as dictionaries, and the membership of lists as a field.
"""

import json
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import rule_engine
import zen
from rich.console import Console
from rich.table import Table

from benchmarks.rules.example_rules import (
    ExampleBatch,
    example_batches,
    example_dataset,
    example_lists,
    example_rules,
)
from scoring.arrays import Array
from scoring.rules.program import TRUE
from scoring.rules.ruleset import RuleInputs, compile_ruleset

SIZES = (2_000, 20)
N_CARDS = (10_000, 1_000_000)  # on lists; 1 % of the transactions meet one
N_USERS = 100
PEER_ROWS = 200
REPEATS = 5
MIN_S = 0.3  # of a measurement
RULES = example_rules()
LIST = re.compile(r'(\w+) in list\("([a-z-]+)"\)')
Row = dict[str, Any]


def main() -> None:
    """Print the table."""
    compiled = compile_ruleset(RULES, example_dataset())
    table = Table("", "rows in a batch", "µs a transaction", "µs a batch", title=f"{len(RULES.rules)} rules")
    for n_cards in N_CARDS:
        lists = example_lists(n_cards)
        for n in SIZES:
            batches = example_batches(n, max(10, 4_000 // n), missing=0.05, n_users=N_USERS * n_cards)

            def ours(batch: ExampleBatch, lists: Any = lists) -> Array:
                columns, keys, scores, times = batch
                hits = lists.lookup("ID_USER", keys, columns, times)
                return compiled.evaluate(RuleInputs(columns, keys, scores, times, hits))

            spent = cpu(ours, batches) * 1e6
            table.add_row(f"Tamiz, {n_cards:,} on lists", f"{n:,}", f"{spent / n:.2f}", f"{spent:,.0f}")
    lists = example_lists(N_CARDS[0])
    [batch] = example_batches(PEER_ROWS, 1, missing=0.0, n_users=N_USERS * N_CARDS[0])
    hits = lists.lookup("ID_USER", batch.keys, batch.columns, batch.event_time_ms)
    expected = compiled.evaluate(RuleInputs(*batch, hits)) == TRUE
    rows = list(as_rows(batch, hits.members))
    peers: dict[str, Callable[[Row], list[bool]]] = {"zen-engine": zen_peer(), "rule-engine": rule_engine_peer()}
    for name, peer in peers.items():
        assert [peer(row) for row in rows] == expected.T.tolist(), f"{name} matches other rules"
        spent = cpu(peer, rows) * 1e6
        table.add_row(f"{name}, row by row", "1", f"{spent:,.0f}", f"{spent:,.0f}")
    Console().print(table)


def cpu(work: Callable[[Any], object], inputs: list[Any]) -> float:
    """Seconds of CPU for one input, minimum of several repetitions."""
    best = float("inf")
    work(inputs[0])
    for _ in range(REPEATS):
        n, began = 0, time.process_time()
        while (spent := time.process_time() - began) < MIN_S / REPEATS:
            work(inputs[n % len(inputs)])
            n += 1
        best = min(best, spent / n)
    return best


def as_rows(batch: ExampleBatch, members: Any) -> Iterator[Row]:
    """The rows of a batch as the peers take them."""
    columns = {name: column.tolist() for name, column in batch.columns.items()}
    columns |= {"ID_USER": batch.keys, "score": batch.scores.tolist()}
    columns["is_prime"] = [bool(value) for value in columns["is_prime"]]
    for _, field, name in {(m[0], m[1], m[2]) for rule in RULES.rules for m in LIST.finditer(rule.when)}:
        on_list = np.zeros(len(batch.keys), np.bool_)
        on_list[members.get((field, name), [])] = True
        columns[_flag(name)] = on_list.tolist()
    for i in range(len(batch.keys)):
        yield {name: column[i] for name, column in columns.items()}


def zen_peer() -> Callable[[Row], list[bool]]:
    """One decision with all rules as expressions, so that a row is converted once."""
    expressions = [{"id": rule.id, "key": rule.id, "value": _zen(rule.when)} for rule in RULES.rules]
    place = {"x": 0, "y": 0}
    kinds: dict[str, Row] = {"input": {}, "expression": {"content": {"expressions": expressions}}, "output": {}}
    nodes = [
        {"id": kind, "type": f"{kind}Node", "name": kind, "position": place, **more} for kind, more in kinds.items()
    ]
    pairs = (("input", "expression"), ("expression", "output"))
    edges = [{"id": f"{a}-{b}", "type": "edge", "sourceId": a, "targetId": b} for a, b in pairs]
    engine = zen.ZenEngine()
    decision = engine.create_decision(zen.ZenDecisionContent(json.dumps({"nodes": nodes, "edges": edges})))

    def matches(row: Row) -> list[bool]:
        result = decision.evaluate(row)["result"]
        return [result[rule.id] for rule in RULES.rules]

    return matches


def rule_engine_peer() -> Callable[[Row], list[bool]]:
    """A parsed rule for each."""
    parsed = [rule_engine.Rule(_rule_engine(rule.when)) for rule in RULES.rules]

    def matches(row: Row) -> list[bool]:
        return [rule.matches(row) for rule in parsed]

    return matches


def _flag(name: str) -> str:
    return "on_" + name.replace("-", "_")


def _zen(when: str) -> str:
    text = LIST.sub(lambda m: _flag(m[2]), when)
    text = re.sub(r"in \(([^)]*)\)", r"in [\1]", text).replace("starts_with(", "startsWith(")
    text = re.sub(r"max\(([^)]*)\)", r"max([\1])", text)
    return re.sub(r"coalesce\((\w+), (\w+)\)", r"(\1 ?? \2)", text)


def _rule_engine(when: str) -> str:
    text = LIST.sub(lambda m: _flag(m[2]), when)
    text = re.sub(r"in \(([^)]*)\)", r"in [\1]", text)
    text = re.sub(r"starts_with\((\w+), (\"\w+\")\)", r"\1.starts_with(\2)", text).replace("abs(", "$abs(")
    text = re.sub(r"max\(([^)]*)\)", r"$max([\1])", text)
    return re.sub(r"coalesce\((\w+), (\w+)\)", r"(\1 == null ? \2 : \1)", text)


if __name__ == "__main__":
    main()
