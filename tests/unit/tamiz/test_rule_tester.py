"""`tamiz rules test`: the statistics equal a count by hand, and lists are those of the time of each decision."""

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from monitoring.performance.rule_backtest import RulesBacktest
from schemas.configuration.child_environment import child_environment
from schemas.configuration.settings import Settings
from schemas.dataset.declaration import load_dataset
from schemas.rules import ListEntry, Rule, RulesFile
from schemas.time_units import DAY_MS
from scoring.decision import OUTCOMES
from scoring.features import featurize
from scoring.input.cleaning import CleanedBatch, clean_payloads
from scoring.rules.ruleset import compile_ruleset
from tamiz.main import app
from tamiz.services import rule_tester
from tamiz.services.decided_transactions import DecidedTransactions, LoggedDecisions
from tamiz.services.rule_tester import backtest
from tamiz.services.rules_file import read_rules_file
from tamiz.services.tested_rulesets import find_evidence
from training.data.history import read_history
from training.registry.model_loader import registered_model

DATASET = load_dataset("terminal_transactions")
N = 600
START_MS = 1_600_000_000_000


def transactions(n: int = N, seed: int = 0) -> CleanedBatch:
    rng = np.random.default_rng(seed)
    payloads = [
        json.dumps(
            {
                "transaction_id": f"t{i}",
                "card": f"c{rng.integers(9)}",
                "terminal": f"t{rng.integers(5)}",
                "amount": round(float(rng.gamma(2, 50)), 2),
                "time": f"2020-09-{1 + i * 20 // n:02}T{rng.integers(24):02}:00:00Z",
            }
        ).encode()
        for i in range(n)
    ]
    cleaned = clean_payloads(DATASET, payloads)
    values = {f.name: np.where(rng.random(n) < 0.2, np.nan, rng.random(n)) for f in DATASET.profile_features}
    return cleaned._replace(columns={**cleaned.columns, **values})


def decided(cleaned: CleanedBatch, **changes: Any) -> DecidedTransactions:
    rng, n = np.random.default_rng(1), len(cleaned.rows)
    found = LoggedDecisions(
        decided_at_ms=START_MS + 1_000 * np.arange(n),
        scores=rng.random(n),
        outcomes=rng.integers(0, len(OUTCOMES), n),
        model_outcomes=rng.integers(0, len(OUTCOMES), n),
        weights=np.where(rng.random(n) < 0.1, 20.0, 1.0),
    )
    frauds = rng.choice([0.0, 1.0, np.nan], n)
    return DecidedTransactions(cleaned, found._replace(**changes), frauds, undecided=3, unlogged=2)


def rule(name: str, when: str, **changes: Any) -> Rule:
    return Rule(
        **({"id": name, "version": 1, "when": when, "effect": "review", "reason": "r", "mode": "live"} | changes)
    )


def run(found: DecidedTransactions, *rules: Rule, entries: list[tuple[int, ListEntry]] | None = None) -> RulesBacktest:
    return backtest(DATASET, compile_ruleset(RulesFile(rules=rules), DATASET), found, entries or [])


def entry(value: str, at_ms: int, *, removed: bool = False) -> tuple[int, ListEntry]:
    return at_ms, ListEntry(
        list="stolen", field="card", value=value, effect=None, reason="r", by="os:ana@h", at_ms=at_ms, removed=removed
    )


def test_the_statistics_equal_a_count_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rule_tester, "MAX_ROWS", 70)  # several parts
    cleaned = transactions()
    found = decided(cleaned)
    result = run(
        found,
        rule("large", "amount > 120"),
        rule("rate", "terminal_fraud_rate_7d > 0.5"),
        rule("quiet", "hour < 6", mode="shadow"),
        rule("trusted", 'card == "c1"', effect="allow"),
    )
    amount, hour = cleaned.columns["amount"], cleaned.columns["hour"]
    rate = cleaned.columns["terminal_fraud_rate_7d"]
    matches = {
        "large": amount > 120,
        "rate": rate > 0.5,
        "quiet": hour < 6,
        "trusted": np.array([key == "c1" for key in cleaned.keys]),
    }
    decisions = found.decisions
    honest = ~np.isnan(found.frauds) & (decisions.outcomes != OUTCOMES.index("decline"))
    for each in result.rules:
        own = matches[each.rule]
        others = np.any([m for name, m in matches.items() if name in ("large", "rate") and name != each.rule], axis=0)
        alone = own & (decisions.model_outcomes == 0) & ~others
        assert each.matches == np.count_nonzero(own)
        assert each.unknown == (np.count_nonzero(np.isnan(rate)) if each.rule == "rate" else 0)
        assert each.alone == np.count_nonzero(alone)
        assert each.frauds_alone == np.count_nonzero(alone & honest & (found.frauds == 1))
        w, frauds = decisions.weights, (found.frauds == 1)
        assert each.precision is not None
        assert each.recall is not None
        assert each.fraud_amount is not None
        assert each.precision.value == pytest.approx(w[own & honest & frauds].sum() / w[own & honest].sum())
        assert each.recall.value == pytest.approx(w[own & honest & frauds].sum() / w[honest & frauds].sum())
        assert each.fraud_amount.value == pytest.approx((w * amount)[own & honest & frauds].sum())
        assert each.overlaps == {
            name: np.count_nonzero(own & m) for name, m in matches.items() if name != each.rule and (own & m).any()
        }
    assert (result.transactions, result.undecided, result.unlogged) == (N, 3, 2)
    assert result.labelled == np.count_nonzero(honest)
    assert result.days == pytest.approx((cleaned.event_time_ms.max() + 1 - cleaned.event_time_ms.min()) / DAY_MS)
    assert result.evidence().matches == {name: np.count_nonzero(own) for name, own in matches.items()}


def test_a_list_holds_what_it_held_at_each_decision() -> None:
    cleaned = transactions()
    listed = rule("stolen", 'card in list("stolen")')
    entries = [
        entry("c1", START_MS - 5),
        entry("c2", START_MS + 200_000),
        entry("c1", START_MS + 300_000, removed=True),
        entry("c3", START_MS + 10_000_000),  # after the last decision
    ]
    at_ms = decided(cleaned).decisions.decided_at_ms
    (found,) = run(decided(cleaned), listed, entries=entries).rules
    expected = [
        (key == "c1" and ms <= START_MS + 300_000) or (key == "c2" and ms > START_MS + 200_000)
        for key, ms in zip(cleaned.keys, at_ms.tolist(), strict=True)
    ]
    assert found.matches == sum(expected) > 0


def test_the_order_of_decisions_is_not_that_of_offsets() -> None:
    """Partitions are read one after the other, and their decisions interleave in time."""
    cleaned = transactions()
    at_ms = START_MS + 1_000 * np.random.default_rng(2).permutation(N)
    entries = [entry("c1", START_MS + 300_000)]
    listed = rule("stolen", 'card in list("stolen")')
    (found,) = run(decided(cleaned, decided_at_ms=at_ms), listed, entries=entries).rules
    later = at_ms > START_MS + 300_000
    assert found.matches == np.count_nonzero(later & np.array([key == "c1" for key in cleaned.keys]))


def test_outcomes_are_those_of_all_rules_if_they_were_live_and_of_the_lists() -> None:
    cleaned = transactions()
    blocked = entry("c2", START_MS - 5)[1]
    found = decided(cleaned)
    result = run(
        found,
        rule("large", "amount > 120", mode="shadow"),
        rule("off", "amount > 0", effect="block", mode="off"),
        rule("trusted", 'card == "c1"', effect="allow"),
        entries=[(START_MS - 5, msgspec.structs.replace(blocked, effect="block"))],
    )
    severity = found.decisions.model_outcomes
    large = cleaned.columns["amount"] > 120
    expected = [
        3 if key == "c2" else 0 if key == "c1" else max(model, int(is_large))
        for key, model, is_large in zip(cleaned.keys, severity.tolist(), large.tolist(), strict=True)
    ]
    assert result.outcomes == tuple(np.bincount(expected, minlength=4).tolist())
    assert result.model_outcomes == tuple(np.bincount(severity, minlength=4).tolist())


def test_a_rule_that_is_off_is_not_evaluated() -> None:
    (found,) = run(decided(transactions()), rule("large", "amount > 0", mode="off")).rules
    assert (found.matches, found.unknown, found.precision) == (0, 0, None)


def test_rules_are_tested_on_a_labelled_file_by_the_champion(simulated_registry: Settings, tmp_path: Path) -> None:
    path, rules = tmp_path / "history.csv", tmp_path / "rules.toml"
    rules.write_text(
        '[[rules]]\nid = "r"\nversion = 1\nwhen = "monto > 300 and score >= 0.05"\neffect = "review"\nreason = "r"\n'
    )
    environment = {n: v for n, v in child_environment(simulated_registry).items() if n.startswith("TAMIZ_")}
    runner = CliRunner(env=environment | {"TAMIZ_BOOTSTRAP_SERVERS": "127.0.0.1:1"})
    written = runner.invoke(app, ["simulate", "--rows", "900", "--signal", "--output", str(path)])
    assert written.exit_code == 0, written.output
    result = runner.invoke(app, ["rules", "test", str(rules), "--file", str(path), "--json"])
    assert result.exit_code == 0, f"{result.output}{result.exception!r}"
    found = json.loads(result.stdout)
    (tested,) = found["rules"]
    history = read_history(path, load_dataset("card_transactions"))
    model = registered_model(simulated_registry, None)
    scores = model.score(featurize(model.encoding, history.columns))
    matches = (history.columns["monto"] > 300) & (scores >= 0.05)
    assert found["labelled"] == len(history.fraud) > 800
    assert tested["matches"] == np.count_nonzero(matches) > 0
    assert tested["frauds"] == np.count_nonzero(matches & (history.fraud == 1))
    assert find_evidence(simulated_registry, read_rules_file(rules)) is None
