"""Short chaos runs (`make chaos` runs the long ones): no fault breaks the processing guarantee."""

import random
from collections import Counter

import msgspec
import pytest
from kafka.record.default_records import DefaultRecordBatch
from kafka.record.legacy_records import LegacyRecordBatch

from chaos.auditor import AuditResult
from chaos.fuzz.fuzz_control import fuzz_control
from chaos.fuzz.fuzz_payloads import fuzz_payloads
from chaos.fuzz.fuzz_records import batches, fuzz_records
from chaos.run import RunPlan, RunResult, run_plan
from schemas.configuration.settings import Settings
from schemas.dataset.declaration import load_dataset
from stream_app.kafka.batches.record_batches import RecordBatches
from stream_app.worker.champion_cache import ChampionCache
from tests.conftest import Kafka

pytestmark = pytest.mark.kafka

STORM = RunPlan(
    transactions=1_500, workers=1, partitions=2, kill_at=("produced", "1"), rate=2_000, seed=11, invalid_share=0.01,
    rule_changes_s=0.2,
)  # fmt: skip


def test_a_worker_dies_after_it_produced_and_before_it_committed_and_every_answer_is_there_once(
    kafka: Kafka, real_registry: Settings
) -> None:
    outcome = run_plan(
        msgspec.structs.replace(real_registry, processing_guarantee="exactly-once"), kafka.bootstrap_servers, STORM
    )
    account = outcome.account
    assert outcome.kept, outcome
    assert outcome.deaths == {-9: 1}
    assert account.inputs == account.decided_once + account.dead_lettered == 1_500
    assert account.dead_lettered > 0
    assert account.panes > 0
    assert account.features == account.decided_once
    assert outcome.faults["rule change"] > 10
    assert account.rule_states > 2


@pytest.mark.parametrize(
    ("wrong", "kept_by"),
    [
        pytest.param({}, {"at-least-once", "exactly-once"}, id="nothing"),
        pytest.param({"repeats": 1}, {"at-least-once"}, id="a repeat"),
        pytest.param({"panes_unequal": 1}, {"at-least-once"}, id="a pane"),
        pytest.param({"features_repeated": 1}, {"at-least-once"}, id="a repeat in the feature log"),
        pytest.param({"features_unequal": 1}, set(), id="values that an offline pass does not give"),
        pytest.param({"rules_by_zombies": 1}, {"at-least-once"}, id="a repeat by rules that were not stamped"),
        pytest.param({"rules_unequal": 1}, set(), id="rules that were not stamped"),
        pytest.param({"lost": 1}, set(), id="a loss"),
        pytest.param({"unequal_ids": 1}, set(), id="a second id"),
        pytest.param({"unequal_content": 1}, set(), id="another answer by the same model"),
        pytest.param({"out_of_order": 1}, set(), id="an answer out of order"),
    ],
)
def test_a_balance_that_is_wrong_is_called_so(wrong: dict[str, int], kept_by: set[str]) -> None:
    right = AuditResult(**dict.fromkeys(AuditResult.__struct_fields__, 0))
    outcomes = [
        RunResult(
            processing_guarantee=guarantee,
            seed=0,
            faults={},
            deaths={},
            seconds=1.0,
            settled=True,
            back_after_s=(),
            account=msgspec.structs.replace(right, **wrong),
        )
        for guarantee in ("at-least-once", "exactly-once")
    ]
    assert {o.processing_guarantee for o in outcomes if o.kept} == kept_by


def test_hostile_payloads_are_all_answered_and_nothing_is_beyond_our_code(real_registry: Settings) -> None:
    store = ChampionCache(real_registry, load_dataset(real_registry.dataset))
    store.open()
    survived = fuzz_payloads(real_registry, store.current, 6_000, seed=3)
    assert survived.decided + survived.dead_lettered == 6_000
    assert min(survived.decided, survived.dead_lettered) > 1_000
    assert survived.internal_errors == 0


def test_records_of_every_kind_that_a_broker_accepts_are_answered_once_each(
    kafka: Kafka, real_registry: Settings
) -> None:
    settings = msgspec.structs.replace(real_registry, processing_guarantee="exactly-once")
    outcome = fuzz_records(settings, kafka.bootstrap_servers, 4_000, seed=8, workers=1)
    assert (outcome.unanswered, outcome.repeated, outcome.workers_ended) == (0, 0, {}), outcome
    assert outcome.decided + outcome.dead_lettered == outcome.records >= 4_000
    assert outcome.decided > 500
    assert "internal-error" not in outcome.codes
    assert outcome.codes.keys() >= {"not-json", "not-utf8", "duplicate-key", "key-too-large", "invalid-transaction-id"}


def test_every_fuzzed_record_is_distinct() -> None:
    found: Counter[tuple[object, ...]] = Counter()
    stream = batches(random.Random(8), 8)
    while sum(found.values()) < 20_000:
        batch = next(stream)
        if batch.records > 3:  # smaller ones are of strange kinds, some made once
            records = RecordBatches(batch.data, DefaultRecordBatch, LegacyRecordBatch).next_batch()
            found.update((r.key, r.value, tuple(r.headers)) for r in records)
    assert len(found) > 0.999 * sum(found.values())


def test_hostile_records_on_control_topics_end_no_service_and_each_answers_the_last_good_one(
    kafka: Kafka, simulated_registry: Settings
) -> None:
    survived = fuzz_control(simulated_registry, kafka.bootstrap_servers, 200, seed=5)
    assert survived.problems == ()
    assert survived.records > 0.9 * 9 * 200
    assert min(survived.skipped.values()) > 20
