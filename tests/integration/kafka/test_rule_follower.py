"""The follower of rules and lists, on a broker: what takes effect, what is refused or skipped, topics made anew."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from kafka import TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType

from chaos.rule_changes import RuleTopics, rule
from schemas.configuration.settings import Settings
from schemas.dataset.declaration import load_dataset
from schemas.rules import RulesFile
from stream_app.kafka.topic_admin import admin
from stream_app.rules import rule_follower
from stream_app.rules.rule_follower import RuleFollower
from tests.conftest import Kafka
from tests.helpers.services.rule_metrics import activation_metrics
from tests.helpers.services.worker_process import isolated_settings, recreate_topic, wait_for

pytestmark = pytest.mark.kafka
RULES = RulesFile(rules=(rule("score > 0.5", "decline"),))
BROKEN = RulesFile(rules=(rule("no_such_field > 1"),))


@pytest.fixture
def settings(kafka: Kafka, tmp_path: Path) -> Settings:
    return isolated_settings(kafka.bootstrap_servers, tmp_path)


@pytest.fixture
def topics(settings: Settings) -> Iterator[RuleTopics]:
    made = RuleTopics(settings)
    yield made
    made.close()


@contextmanager
def following(settings: Settings) -> Iterator[RuleFollower]:
    follower = RuleFollower(settings, load_dataset(settings.dataset), activation_metrics())
    follower.start()
    try:
        assert follower.catch_up(60), follower.progress
        yield follower
    finally:
        follower.stop()


def cards(follower: RuleFollower, *values: str) -> list[bool]:
    return [bool(follower.current.state.lists.find("ID_USER", value)) for value in values]


def counted(follower: RuleFollower, name: str, **labels: str) -> float:
    metric = getattr(follower._metrics, name)
    return float((metric.labels(**labels) if labels else metric)._value.get())


def test_a_change_takes_effect_within_a_second_and_earlier_states_can_be_had(
    settings: Settings, topics: RuleTopics
) -> None:
    topics.add_ruleset(RULES)
    topics.add_entry("7", "stolen", "block")
    with following(settings) as follower:
        first = follower.current
        assert (first.version.ruleset, first.version.lists_offset, cards(follower, "7", "8")) == (1, 1, [True, False])
        started = time.monotonic()
        topics.add_ruleset(RULES)
        topics.add_entry("8", "stolen", "block")
        topics.add_entry("7", "stolen", "block", removed=True)
        wait_for(lambda: follower.current.version[::2] == (2, 3), 30)
        assert time.monotonic() - started < 5, "0.1 s on a quiet machine"
        assert cards(follower, "7", "8") == [False, True]
        earlier = follower.state_of(first.version)
        assert earlier is not None
        assert (earlier.number, len(earlier.lists.find("ID_USER", "7"))) == (1, 1)
    with following(settings) as later:
        read_again = later.state_of(first.version)
        assert read_again is not None
        assert read_again.number == 1
        assert sorted(v for _, v, _ in read_again.lists.entries()) == ["7"]
        assert later.state_of(first.version._replace(ruleset=9)) is None
        assert later.state_of(first.version._replace(rules_topic_id="other")) is None
        assert later.state_of(first.version._replace(lists_topic_id="other")) is None


def test_a_ruleset_that_is_refused_leaves_the_one_before_in_force(settings: Settings, topics: RuleTopics) -> None:
    topics.add_ruleset(RULES)
    first = topics.head
    topics.add_ruleset(BROKEN)
    with following(settings) as follower:
        assert follower.current.version.ruleset == 1
        assert "no_such_field" in (follower.refused or "")
        assert counted(follower, "ruleset_refused") == 1
        topics.add_ruleset(RULES)
        follower.catch_up(60)
        assert (follower.current.version.ruleset, follower.refused) == (3, None)
        topics.add_ruleset(RULES, number=2, after=first)
        follower.catch_up(60)
        assert follower.current.version.ruleset == 3
        assert "ruleset 2 by os:ana@chaos is refused: follows record 1" in (follower.refused or "")


def test_where_a_second_person_is_required_a_ruleset_waits_for_the_approval(
    settings: Settings, topics: RuleTopics
) -> None:
    with following(msgspec.structs.replace(settings, rules_second_person=True)) as follower:
        topics.add_ruleset(RULES, change="proposed")
        for by, proposal in (("web:bo", None), ("os:ana@chaos", 1)):
            topics.add_ruleset(RULES, by=by, proposal=proposal)
            follower.catch_up(60)
            assert follower.current.version.ruleset is None
        topics.add_ruleset(RULES, by="web:bo", proposal=1)
        follower.catch_up(60)
        assert follower.current.version.ruleset == 4


def test_records_that_are_no_rules_and_entries_are_skipped_and_counted(settings: Settings, topics: RuleTopics) -> None:
    topics.add_ruleset(RULES)
    topics.add_entry("7", "stolen", "block")
    content = msgspec.json.encode(RULES)
    after = f'"after":{{"number":1,"sha256":"{topics.head.sha256}"}}'
    head = f'"number":2,"change":"activated","by":"x","at_ms":1700000000000,"reason":"",{after}'
    junk = [b"", b"{", b"null", b"\xff" * 50, b'{"a":' * 3_000, b"[" * 900_000, None, b'{"number":2}']
    forged = [
        f'{{{head},"content":{{"rules":[],"unknown":1}}}}'.encode(),
        f'{{{head},"content":{{"rules":{"[" * 200}}}}}'.encode(),
        f'{{{head.replace("2", "7", 1)},"content":'.encode() + content + b"}",
    ]
    snooze_without_rule = b'{"list":"a","field":"f","value":"v","effect":"snooze","reason":"","by":"","at_ms":1}'
    for value in (*junk, *forged):
        topics.send(settings.rules_topic, b"k", value)
    for value in (*junk, snooze_without_rule):
        topics.send(settings.lists_topic, b"k", value)
    with following(settings) as follower:
        assert follower.current.version[::2] == (1, 1)
        assert counted(follower, "skipped", topic=settings.rules_topic) == len(junk) + len(forged)
        assert counted(follower, "skipped", topic=settings.lists_topic) == len(junk) + 1
        topics.add_ruleset(RULES)
        follower.catch_up(60)
        assert follower.current.version.ruleset == 2


def test_topics_made_anew_or_truncated_are_read_again_and_counted(
    settings: Settings, topics: RuleTopics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rule_follower, "CHECK_INTERVAL_S", 0.1)
    for card in "78":
        topics.add_ruleset(RULES)
        topics.add_entry(card, "stolen", "block")
    with following(settings) as follower:
        before = follower.current.version
        recreate_topic(settings, settings.rules_topic)
        wait_for(lambda: counted(follower, "topic_resets", topic=settings.rules_topic), 30)
        assert follower.catch_up(60)
        assert (follower.current.version.ruleset, cards(follower, "7", "8")) == (None, [True, True])
        assert follower.state_of(before) is None
        with admin(settings.bootstrap) as client:  # a broker does not truncate a compacted topic
            config = {"cleanup.policy": "delete"}
            client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, settings.lists_topic, config)])
            client.delete_records({TopicPartition(settings.lists_topic, 0): 1})
        wait_for(lambda: counted(follower, "topic_resets", topic=settings.lists_topic), 30)
        assert follower.catch_up(60)
        assert cards(follower, "7", "8") == [False, True]
        again = RuleTopics(settings)
        again.add_ruleset(RULES)
        again.close()
        assert follower.catch_up(60)
        assert follower.current.version.ruleset == 1
        assert follower.current.version.rules_topic_id != before.rules_topic_id
