"""Warms up for both shipped data sets, then decides traffic; prints what the traffic compiled, as JSON.

In a process of its own: in another one, tests have compiled functions for types that a worker does not use.
"""

import json
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from monitoring.counting.monitored_model import MonitoredModel
from schemas.configuration.settings import load
from schemas.dataset.declaration import load_dataset
from schemas.records import Label
from schemas.rules import ListEntry, Rule, RulesFile
from scoring.profiles.partition_profiles import PartitionProfiles
from scoring.profiles.profile_fold import ProfileFold
from scoring.profiles.shared.label_inputs import label_inputs
from scoring.rules.list_state import ListState
from scoring.rules.rule_state import RuleState
from scoring.rules.ruleset import compile_ruleset
from scoring.rules.type_check import text_fields
from stream_app.decisions.handler import HandlerPolicy, HandlerState, handle
from stream_app.decisions.id_conflicts import RecentIds
from stream_app.decisions.probe import Probe
from stream_app.worker.warm_up import warm_up
from tamiz.simulation.payload_formats import keyed_payloads
from tamiz.simulation.simulator import Traffic
from tamiz.simulation.terminal_files import keyed_labels, keyed_transactions
from tamiz.simulation.terminal_simulator import TerminalTraffic, simulate_terminals
from tests.helpers.bundles.small_bundle import encoding, small_bundle
from tests.helpers.traffic.invalid_payloads import INVALID_PAYLOADS, payload
from training.model.fit import FitConfig

SIZES = (1, 3, 500, 40)


def compilations() -> dict[str, int]:
    """Compiled signatures of each function that Numba compiles."""
    found = {}
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] in ("scoring", "stream_app"):
            for function in vars(module).values():
                if hasattr(function, "signatures") and function.py_func.__module__ == name:
                    found[f"{name}.{function.py_func.__qualname__}"] = len(function.signatures)
    return found


def decide(model: MonitoredModel, policy: HandlerPolicy, payloads: Iterable[bytes | None], state: HandlerState) -> int:
    """Decide payloads of two partitions in batches of different sizes; returns the number of decisions."""
    records: list[Probe] = []
    for i, value in enumerate(payloads):
        headers = [("tamiz-transaction-id", b"%d" % i)] * (i % 3)
        records.append(Probe(value=value, partition=i % 2, offset=i, timestamp=4_000_000_000_000, headers=headers))
    decided, start, batch = 0, 0, 0
    while start < len(records):
        size = SIZES[batch % len(SIZES)]
        decided += len(handle(records[start : start + size], model, policy, state).decisions)
        start, batch = start + size, batch + 1
    return decided


def policy_of(name: str) -> HandlerPolicy:
    return HandlerPolicy.from_settings(load({}), load_dataset(name), counting=True)


def some_rules(policy: HandlerPolicy, *conditions: str) -> RuleState:
    rules = tuple(
        Rule(id=f"r{i}", version=1, when=when, effect="review", reason="", mode="live", valid_until="2200-01-01")
        for i, when in enumerate(conditions)
    )
    entries = [
        ListEntry(list="a", field=field, value=str(i), effect="decline", reason="", by="", at_ms=0)
        for field in text_fields(policy.dataset)
        for i in range(50)
    ]
    return RuleState(1, compile_ruleset(RulesFile(rules=rules), policy.dataset), ListState().updated(entries))


def card_traffic() -> tuple[int, list[str]]:
    """Two models one after the other: a hot swap."""
    policy, folder = policy_of("card_transactions"), Path(tempfile.mkdtemp())
    valid = [value for _, value in keyed_payloads(Traffic(rows=1_000, seed=3, signal=True))]
    broken = [value for each in INVALID_PAYLOADS.values() for value in (payload(), each.payload)]
    warm_up(small_bundle(folder / "1"), policy)
    rules = some_rules(policy, 'monto > 10 and tipo_tc == "Virtual"', 'ID_USER in list("a") or score / monto < 1')
    before, state = compilations(), HandlerState(RecentIds(), rules=rules)
    decided = decide(small_bundle(folder / "1"), policy, [*valid, *broken], state)
    swapped = small_bundle(folder / "2", encoding("monto", "establecimiento"), FitConfig(max_depth=1), rounds=3)
    decided += decide(swapped, policy, valid, state)
    return decided, newly_compiled(before)


def terminal_traffic() -> tuple[int, list[str]]:
    """Transactions of several days, with labels, a snapshot, and rows that are merged."""
    policy, folder = policy_of("terminal_transactions"), Path(tempfile.mkdtemp())
    some = simulate_terminals(TerminalTraffic(cards=60, days=30, seed=2))
    labels = [msgspec.json.decode(value, type=Label) for _, value in keyed_labels(some)]
    model = small_bundle(folder, encoding("amount", "terminal"))
    warm_up(model, policy)
    before = compilations()
    fold = ProfileFold(policy.dataset, [0, 1])
    for partition in (0, 1):
        fold.assign(partition, PartitionProfiles(fold.plan))
    fold.shared.add_labels(label_inputs(fold.plan, labels))
    rules = some_rules(policy, "card_count_7d > 2 and hour < 6", 'terminal in list("a") or card_count_7d is missing')
    state = HandlerState(RecentIds(), fold, rules)
    decided = decide(model, policy, [value for _, value in keyed_transactions(some)], state)
    fold.shared.compact()
    copying = fold.partitions[0].begin_copy()
    copying.copy_events()
    PartitionProfiles.from_arrays(fold.plan, copying.finish().to_arrays())
    return decided, newly_compiled(before)


def newly_compiled(before: dict[str, int]) -> list[str]:
    return sorted(name for name, n in compilations().items() if n != before.get(name, 0))


if __name__ == "__main__":
    traffic: Sequence[tuple[int, list[str]]] = [card_traffic(), terminal_traffic()]
    print(
        json.dumps({"decisions": [n for n, _ in traffic], "compiled": [name for _, names in traffic for name in names]})
    )
