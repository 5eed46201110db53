"""The handler with rules and lists: they decide with the model, and a decision says so."""

from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from monitoring.counting.monitored_model import MonitoredModel
from schemas.configuration.settings import load
from schemas.dataset.declaration import load_dataset
from schemas.records import MAX_MATCHES, Decision
from schemas.rules import Exploration, ListEntry, Rule, RulesFile
from scoring.rules.list_state import ListState
from scoring.rules.rule_state import RuleState
from scoring.rules.ruleset import CompiledRuleset, RuleInputs, compile_ruleset
from stream_app.decisions.handler import HandlerPolicy, HandlerResult, HandlerState, handle, handle_with_isolation
from tests.helpers.traffic.invalid_payloads import payload

DATASET = load_dataset("card_transactions")
POLICY = HandlerPolicy.from_settings(load({}), DATASET, counting=True)


class RuledRecord(NamedTuple):
    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


@pytest.fixture(scope="module")
def model(champion_bundle: Path) -> MonitoredModel:
    return MonitoredModel.load(champion_bundle, version=3)


def records(*values: bytes | None) -> list[RuledRecord]:
    return [RuledRecord("transactions", i % 2, 10 + i, b"17", value) for i, value in enumerate(values)]


def rule(name: str, when: str, effect: str, mode: str = "live") -> Rule:
    return Rule(id=name, version=2, when=when, effect=effect, reason=f"reason of {name}", mode=mode)  # type: ignore[arg-type]


def entry(value: str, effect: str | None, **changes: Any) -> ListEntry:
    made = ListEntry(
        list="cards", field="ID_USER", value=value, effect=effect, reason="card testing", by="ana", at_ms=0  # type: ignore[arg-type]
    )  # fmt: skip
    return msgspec.structs.replace(made, **changes)


def state(*rules: Rule, explore: Exploration | None = None, entries: tuple[ListEntry, ...] = ()) -> HandlerState:
    compiled = compile_ruleset(RulesFile(rules=rules, explore=explore), DATASET)
    return HandlerState(rules=RuleState(7, compiled, ListState().updated(entries)))


def decisions(handled: HandlerResult) -> list[Decision]:
    return [msgspec.json.decode(out.value or b"", type=Decision) for out in handled.decisions]


MANY = (
    rule("large", "monto > 500", "review"),
    rule("virtual", 'tipo_tc == "Virtual" and monto > 100', "decline"),
    rule("likely", "score > 0.05", "challenge"),
    rule("trusted", 'ID_USER in list("cards") or device_score == 1', "allow"),
    rule("night", "hour < 6", "block", "shadow"),
    rule("unused", "monto > 0", "block", "off"),
)


def of_real_traffic(explore: Exploration | None, payloads: list[bytes]) -> HandlerState:
    users = [str(msgspec.json.decode(p)["ID_USER"]) for p in payloads[:60:3]]
    return state(
        *MANY,
        explore=explore,
        entries=(
            *(entry(user, "block") for user in users[::3]),
            *(entry(user, None) for user in users[1::3]),
            *(entry(user, "snooze", list="quiet", rule="large") for user in users[2::3]),
        ),
    )


@pytest.mark.parametrize("explore", [None, Exploration(share=0.5, below=1e6)])
def test_with_rules_one_by_one_and_as_a_batch_give_identical_decisions(
    model: MonitoredModel, real_payloads: list[bytes], explore: Exploration | None
) -> None:
    batch, rules = records(*real_payloads[:300]), of_real_traffic(explore, real_payloads)
    alone = [out for record in batch for out in handle([record], model, POLICY, rules).decisions]
    together = handle(batch, model, POLICY, rules)
    assert list(together.decisions) == alone
    by = {d.decided_by for d in decisions(together)}
    assert by == {"model", "rule", "list"} | ({"exploration"} if explore else set())


def test_rules_change_outcomes_and_nothing_that_the_model_said_nor_what_drift_counts(
    model: MonitoredModel, real_payloads: list[bytes]
) -> None:
    batch = records(*real_payloads[:300])
    alone, ruled = (handle(batch, model, POLICY, s) for s in (HandlerState(), of_real_traffic(None, real_payloads)))
    assert any(d.outcome != d.model_outcome for d in decisions(ruled))
    for before, after in zip(decisions(alone), decisions(ruled), strict=True):
        assert (before.decided_by, before.ruleset, before.matches) == ("model", None, ())
        assert after.ruleset == 7
        changed = {"outcome": before.outcome, "decided_by": "model", "ruleset": None, "matches": ()}
        assert msgspec.structs.replace(after, **changed) == before
    assert alone.coded is not None
    assert ruled.coded is not None
    assert [a.tolist() for a in alone.coded] == [a.tolist() for a in ruled.coded]


def test_a_card_on_a_list_is_declined_by_the_list_with_the_reason_of_its_entry(model: MonitoredModel) -> None:
    rules = HandlerState(rules=RuleState(None, None, ListState().updated([entry("17", "block")])))
    handled = handle(records(payload(ID_USER="17"), payload(ID_USER="18")), model, POLICY, rules)
    listed, other = decisions(handled)
    assert (listed.outcome, listed.decided_by, listed.ruleset) == ("decline", "list", None)
    assert [(m.kind, m.name, m.reason) for m in listed.matches] == [("list", "cards", "card testing")]
    assert (other.decided_by, other.matches) == ("model", ())
    assert handled.rules is not None
    assert handled.rules.entries == {("cards", "block"): 1}


def test_rules_are_counted_by_name_and_mode_with_unknown_and_snoozed_ones(model: MonitoredModel) -> None:
    rules = state(
        rule("large", "monto > 500", "review"),
        rule("tried", "monto > 500", "block", "shadow"),
        rule("line", "linea_tc > 0", "review"),
        entries=(entry("17", "snooze", list="quiet", rule="large"),),
    )
    batch = records(payload(ID_USER="17", monto="900"), payload(ID_USER="18", monto="900", linea_tc="NA"))
    tally = handle(batch, model, POLICY, rules).rules
    assert tally is not None
    assert tally.matched == {("large", "live"): 1, ("tried", "shadow"): 2, ("line", "live"): 1}
    assert (tally.unknown, tally.snoozed) == ({"line": 1}, {"large": 1})
    assert tally.deciders.total() == 2


def test_a_decision_names_the_first_matches_and_counts_the_rest(model: MonitoredModel) -> None:
    shadow = [rule(f"s{i}", "hour >= 0", "decline", "shadow") for i in range(MAX_MATCHES + 5)]
    handled = handle(records(payload()), model, POLICY, state(*shadow, rule("last", "hour >= 0", "block")))
    (decision,) = decisions(handled)
    assert [m.name for m in decision.matches] == ["last", *(r.id for r in shadow[: MAX_MATCHES - 1])]
    assert handled.rules is not None
    assert handled.rules.omitted == 6


class FaultyRuleset(CompiledRuleset):
    """Raises when a transaction of this amount, or any for None, is evaluated."""

    amount: float | None = None

    def evaluate(self, inputs: RuleInputs) -> Any:
        if self.amount is None or self.amount in inputs.columns["monto"]:
            raise ZeroDivisionError("a bug")
        return super().evaluate(inputs)


@pytest.mark.parametrize("amount", [None, 777.0])
def test_a_record_that_rules_fail_on_is_a_dead_letter_unless_they_fail_on_every_record(
    model: MonitoredModel, amount: float | None
) -> None:
    ruleset = FaultyRuleset(RulesFile(), [], [])
    ruleset.amount = amount
    rules = HandlerState(rules=RuleState(1, ruleset, ListState().updated([entry("17", "block")])))
    batch = records(payload(monto="1", ID_USER="17"), payload(monto="777"))
    if amount is None:
        with pytest.raises(ZeroDivisionError):
            handle_with_isolation(batch, model, POLICY, rules)
        return
    handled = handle_with_isolation(batch, model, POLICY, rules)
    assert [d.decided_by for d in decisions(handled)] == ["list"]
    assert [r.code for r in handled.rejections] == ["internal-error"]
    assert handled.rules is not None
    assert handled.rules.deciders["list"] == 1
