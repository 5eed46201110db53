"""The matches of a decision are explained with the values that their rules and lists read."""

from pathlib import Path

import msgspec
import pytest

from monitoring.counting.monitored_model import MonitoredModel
from schemas.configuration.settings import load
from schemas.dataset.declaration import load_dataset
from schemas.records import Decision
from schemas.rules import ListEntry, Rule, RulesFile
from scoring.rules.list_state import ListState
from scoring.rules.rule_state import RuleState
from scoring.rules.ruleset import compile_ruleset
from stream_app.decisions.decision_explanation import Explanation
from stream_app.decisions.handler import HandlerPolicy, HandlerState, clean_records, handle
from stream_app.decisions.probe import Probe
from stream_app.rules.match_explanation import DecidedTransaction, explain_matches
from tamiz.commands.stream.explain import _print_table
from tests.helpers.bundles.small_bundle import small_bundle
from tests.helpers.traffic.invalid_payloads import payload

DATASET = load_dataset("card_transactions")
POLICY = HandlerPolicy.from_settings(load({}), DATASET, counting=False)
WHEN = 'monto > 10 * linea_tc or score >= 0 and ID_USER == "17" and tipo_tc is not missing'
RULES = (
    Rule(id="large", version=3, when=WHEN, effect="review", reason="large for\nits line", mode="live"),
    Rule(id="tried", version=1, when="hour >= 0", effect="block", reason="a trial", mode="shadow"),
)
ENTRY = ListEntry(
    list="cards", field="ID_USER", value="17", effect="decline", reason="card testing", by="ana", at_ms=0
)  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> MonitoredModel:
    folder: Path = tmp_path_factory.mktemp("bundle")
    return small_bundle(folder / "1")


def decided(model: MonitoredModel) -> tuple[Decision, DecidedTransaction]:
    rules = RuleState(4, compile_ruleset(RulesFile(rules=RULES), DATASET), ListState().updated([ENTRY]))
    record = Probe(payload(ID_USER="17", monto="900", linea_tc="NA"))
    (out,) = handle([record], model, POLICY, HandlerState(rules=rules)).decisions
    decision = msgspec.json.decode(out.value or b"", type=Decision)
    cleaned, _ = clean_records([record], POLICY)
    return decision, DecidedTransaction(decision, cleaned, {}, rules)


def test_each_match_has_its_condition_and_the_values_that_it_reads(model: MonitoredModel) -> None:
    decision, found = decided(model)
    by_list, by_rule, tried = explain_matches(decision, found, DATASET)
    assert (decision.outcome, decision.decided_by) == ("decline", "list")
    assert (by_list.match.name, by_list.when, by_list.values) == ("cards", None, {"ID_USER": "17"})
    assert by_rule.when == WHEN
    assert by_rule.values == {
        "monto": 900.0,
        "linea_tc": None,
        "score": decision.score,
        "ID_USER": "17",
        "tipo_tc": found.cleaned.columns["tipo_tc"][0],
    }
    assert (tried.match.mode, list(tried.values)) == ("shadow", ["hour"])


def test_without_the_transaction_the_matches_are_those_that_the_decision_names(model: MonitoredModel) -> None:
    decision, _ = decided(model)
    explained = explain_matches(decision, None, DATASET)
    assert [(e.match, e.when, e.values) for e in explained] == [(m, None, {}) for m in decision.matches]


def test_explain_prints_who_decided_and_each_match_with_its_values(
    model: MonitoredModel, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    decision, found = decided(model)
    explanation = Explanation(
        decision=decision,
        archived=False,
        transaction="{}",
        gone=None,
        origin="transactions-0-1",
        profile_features=None,
        matches=explain_matches(decision, found, DATASET),
        reproduced=True,
        reproduction=None,
    )
    _print_table(explanation)
    printed = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for words in (
        "decided by list cards: card testing",
        "ruleset 4",
        "list cards decline, live: card testing with ID_USER 17",
        "rule large version 3 review, live: large for\\nits line when monto > 10",
        "linea_tc missing",
    ):
        assert words in printed
