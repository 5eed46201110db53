"""Which rules the transactions of a partition meet, on a broker: current ones, and stamped ones after a takeover."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from faust.types import TP
from kafka import KafkaProducer

from chaos.rule_changes import RuleTopics, rule
from schemas.configuration.settings import Settings
from schemas.dataset.declaration import load_dataset
from schemas.rules import RulesFile
from schemas.transaction_ids import TOPIC_ID_HEADER
from stream_app.decisions.decision_headers import GROUP_HEADER, OFFSET_HEADER
from stream_app.kafka.batches.record_columns import FetchedRecord
from stream_app.rules.activation_log import RuleVersion, Stamp
from stream_app.rules.partition_rules import PartitionRules
from stream_app.rules.rule_follower import RuleFollower
from stream_app.rules.rule_plan import RulePlan
from tests.conftest import Kafka
from tests.helpers.services.rule_metrics import activation_metrics
from tests.helpers.services.worker_process import isolated_settings, recreate_topic

pytestmark = pytest.mark.kafka
RULES = RulesFile(rules=(rule("score > 0.5", "decline"),))
TOPIC_ID = "input"
BATCH = 5


class TakenPartitions:
    """A worker's rules, without the worker: partition 0 in batches of `BATCH` records."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._epoch = 0
        self.metrics = activation_metrics()
        self.follower = RuleFollower(settings, load_dataset(settings.dataset), self.metrics)
        self.rules = PartitionRules(settings, self.follower, self.metrics)
        self.producer = KafkaProducer(bootstrap_servers=settings.bootstrap)

    def decide(self, first: int, *, is_written: bool = True) -> list[tuple[int | None, list[int]]]:
        """Decide a batch: its rulesets and offsets. Its stamps are written; is_written: its decisions, too."""
        rows = [FetchedRecord("t", 0, first + i, 0, None, b"", ()) for i in range(BATCH)]
        plan = asyncio.run(self.rules.plan([(TP("t", 0), rows)], {TP("t", 0), TP("t", 1)}, (self._epoch, 0), TOPIC_ID))
        for stamp in plan.stamps:
            self.producer.send(self._settings.rule_activations_topic, stamp.value, partition=stamp.partition)
        for row in rows if is_written else []:
            headers = {OFFSET_HEADER: b"%d" % row.offset, GROUP_HEADER: self._settings.consumer_group.encode()}
            headers[TOPIC_ID_HEADER] = TOPIC_ID.encode()
            self.producer.send(self._settings.decisions_topic, b"{}", partition=0, headers=list(headers.items()))
        self.producer.flush()
        return pieces(plan)

    def rebalance(self) -> None:
        self._epoch += 1


def pieces(plan: RulePlan) -> list[tuple[int | None, list[int]]]:
    found, start = [], 0
    for state, n in plan.states:
        found.append((state and state.number, [r.offset for r in plan.records[start : start + n]]))
        start += n
    return found


@pytest.fixture
def settings(kafka: Kafka, tmp_path: Path) -> Settings:
    return isolated_settings(kafka.bootstrap_servers, tmp_path)


@pytest.fixture
def topics(settings: Settings) -> Iterator[RuleTopics]:
    made = RuleTopics(settings)
    yield made
    made.close()


@pytest.fixture
def worker(settings: Settings) -> Iterator[TakenPartitions]:
    made = TakenPartitions(settings)
    asyncio.run(made.rules.start())
    yield made
    asyncio.run(made.rules.stop())
    made.producer.close()


def stamps(settings: Settings) -> Sequence[tuple[int, int | None]]:
    from stream_app.rules.rule_history import RuleHistory

    log = RuleHistory(settings, load_dataset(settings.dataset)).stamps({0: None}, TOPIC_ID)[0]
    return [(stamp.from_offset, stamp.version.ruleset) for stamp in log.stamps]


def test_without_rules_and_lists_nothing_is_stamped(settings: Settings, worker: TakenPartitions) -> None:
    assert worker.decide(0) == worker.decide(0) == [(None, [0, 1, 2, 3, 4])]
    assert stamps(settings) == []


def test_a_new_state_is_stamped_once_and_what_was_decided_meets_its_rules_again_after_a_takeover(
    settings: Settings, topics: RuleTopics, worker: TakenPartitions
) -> None:
    assert worker.decide(0) == [(None, [0, 1, 2, 3, 4])]
    for first in (5, 15):
        topics.add_ruleset(RULES)
        topics.add_ruleset(RULES, change="proposed")
        assert worker.follower.catch_up(60)
        worker.decide(first)
        worker.decide(first + 5)
    assert stamps(settings) == [(5, 1), (15, 3)]
    topics.add_ruleset(RULES)
    assert worker.follower.catch_up(60)
    worker.rebalance()
    assert worker.decide(3) == [(None, [3, 4]), (1, [5, 6, 7])]
    assert worker.decide(13) == [(1, [13, 14]), (3, [15, 16, 17])]
    assert worker.decide(23) == [(3, [23, 24]), (5, [25, 26, 27])]
    assert worker.decide(28) == [(5, [28, 29, 30, 31, 32])]
    assert stamps(settings) == [(5, 1), (15, 3), (25, 5)]
    worker.rebalance()
    assert worker.decide(33) == [(5, [33, 34, 35, 36, 37])]
    assert stamps(settings) == [(5, 1), (15, 3), (25, 5)]


def test_a_stamp_without_decisions_is_replaced_by_the_current_state(
    settings: Settings, topics: RuleTopics, worker: TakenPartitions
) -> None:
    topics.add_ruleset(RULES)
    worker.follower.catch_up(60)
    worker.decide(0, is_written=False)
    topics.add_ruleset(RULES)
    worker.follower.catch_up(60)
    worker.rebalance()
    assert worker.decide(0) == [(2, [0, 1, 2, 3, 4])]
    assert stamps(settings) == [(0, 2)]


def test_a_worker_that_is_behind_a_stamp_reads_on_before_it_decides(
    settings: Settings, topics: RuleTopics, worker: TakenPartitions
) -> None:
    worker.decide(0)
    topics.add_ruleset(RULES)
    ahead = TakenPartitions(settings)
    asyncio.run(ahead.rules.start())
    ahead.decide(5)
    asyncio.run(ahead.rules.stop())
    ahead.producer.close()
    worker.rebalance()
    assert worker.decide(10) == [(1, [10, 11, 12, 13, 14])]
    assert stamps(settings) == [(5, 1)]
    assert worker.rules.problems() == []


def test_records_that_are_no_stamps_or_name_what_does_not_exist_are_skipped_and_counted(
    settings: Settings, topics: RuleTopics, worker: TakenPartitions
) -> None:
    topics.add_ruleset(RULES)
    worker.follower.catch_up(60)
    version = worker.follower.current.version
    beyond = Stamp(0, version._replace(ruleset=7), 10**12, 0)
    older = Stamp(3, RuleVersion(None, version.rules_topic_id, 0, version.lists_topic_id), 0, 0)
    forged = [b"", b"{", None, b"\xff" * 99, beyond.record(0, TOPIC_ID, settings.consumer_group).value]
    others = [Stamp(0, version, 1, 0).record(0, *of).value for of in ((TOPIC_ID, "other"), ("other", "g"))]
    worker.decide(0)
    for value in (*forged, *others, older.record(0, TOPIC_ID, settings.consumer_group).value):
        worker.producer.send(settings.rule_activations_topic, value, b"k", partition=0)
    worker.producer.flush()
    worker.rebalance()
    assert worker.decide(5) == [(1, [5, 6, 7, 8, 9])]
    skipped = worker.metrics.skipped.labels(settings.rule_activations_topic)._value.get()
    assert (skipped, stamps(settings)) == (len(forged), [(0, 1)])


def test_rules_that_are_gone_are_replaced_by_the_current_ones_and_counted(
    settings: Settings, topics: RuleTopics, worker: TakenPartitions
) -> None:
    topics.add_ruleset(RULES)
    worker.follower.catch_up(60)
    worker.decide(0)
    recreate_topic(settings, settings.rules_topic)
    again = RuleTopics(settings)
    for _ in range(2):
        again.add_ruleset(RULES)
    again.close()
    time.sleep(0.1)
    worker.rebalance()
    assert worker.follower.catch_up(60)
    assert worker.decide(2) == [(2, [2, 3, 4]), (2, [5, 6])]
    assert worker.metrics.states_unavailable._value.get() == 1
    assert stamps(settings) == [(0, 1), (5, 2)]
