"""Audit of a run: compares the output topics with the input. Reads committed records only."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from chaos.rule_replay import replay_decisions
from monitoring.counting.monitored_model import MonitoredModel
from monitoring.counting.pane_codec import panes_of
from monitoring.counting.panes import PartitionPanes
from schemas.configuration.settings import Settings
from schemas.dataset.declaration import load_dataset
from schemas.records import Decision, FeatureRecord, PaneSnapshot
from schemas.time_units import MINUTE_MS
from schemas.transaction_ids import transaction_id
from scoring.arrays import Matrix
from scoring.profiles.feature_log import VALUE_TYPE
from scoring.profiles.profile_plan import ProfilePlan
from stream_app.decisions import dead_letters
from stream_app.decisions.decision_headers import OFFSET_HEADER
from stream_app.decisions.handler import HandlerPolicy, clean_records, handle
from stream_app.kafka.topic_admin import topic_ids
from stream_app.kafka.topic_reader import read_to_end
from stream_app.worker.champion_cache import ChampionCache

PaneKey = tuple[int, int, int]  # model version, partition, minute
Counts = dict[PaneKey, tuple[int, tuple[int, ...]]]  # rows, counts by code


class AuditResult(msgspec.Struct, frozen=True, kw_only=True):
    """Result of the audit."""

    inputs: int
    decided_once: int
    decided_more_than_once: int
    repeats: int  # records beyond the first of each transaction, decisions and dead letters
    longest_repeat: int  # longest run of consecutive repeats in one partition: repeated by one fault
    dead_lettered: int
    lost: int
    unequal_ids: int  # transactions with more than one decision id
    unequal_content: int  # transactions with different decisions by the same model version
    out_of_order: int  # first answers that follow the answer to a later offset of their partition
    panes: int
    panes_unequal: int  # panes that differ from an offline recount, or exist on one side only
    features: int  # decisions in the feature log
    features_unequal: int  # decisions whose logged values differ from an offline pass, or are not logged
    features_repeated: int  # records of the feature log beyond the first of each decision
    features_incomplete: int  # decisions whose record states that features of other entities lack tiles
    rule_states: int  # states of rules and lists that transactions met
    rules_unequal: int  # transactions without a decision that equals an offline replay with the stamped rules
    rules_by_zombies: int  # further decisions of the others that differ from it

    @property
    def is_whole(self) -> bool:
        """Whether at-least-once holds."""
        wrong = self.unequal_ids or self.unequal_content or self.out_of_order or self.features_unequal
        wrong = wrong or self.rules_unequal
        return not (self.lost or wrong)

    @property
    def is_exact(self) -> bool:
        """Whether exactly-once holds."""
        return self.is_whole and not (
            self.repeats or self.panes_unequal or self.features_repeated or self.rules_by_zombies
        )


def audit(settings: Settings) -> AuditResult:
    """Read every topic to its end and compare output with input."""
    inputs = _all(settings, settings.transactions_topic)
    topic_id = topic_ids(settings.bootstrap, [settings.transactions_topic])[settings.transactions_topic]
    decisions = [(r, msgspec.json.decode(r.value, type=Decision)) for r in _all(settings, settings.decisions_topic)]
    letters = [(r, dead_letters.read(r.headers)) for r in _all(settings, settings.dead_letters_topic)]
    consumed = {transaction_id(r, topic_id) for r in inputs}
    answers = Counter(d.transaction_id for _, d in decisions)
    letter_of = Counter(about.transaction_id for _, about in letters if about)
    ids: dict[str, set[str]] = {}
    content: dict[tuple[str, int], set[bytes]] = {}
    places = [(r.partition, int(dict(r.headers)[OFFSET_HEADER])) for r, _ in decisions]
    models = {version: _model(settings, version) for version in {d.model_version for _, d in decisions}}
    answered = [(place, r.value, d) for place, (r, d) in zip(places, decisions, strict=True)]
    replayed = replay_decisions(settings, inputs, answered, models, topic_id)
    for (record, decision), is_by_stamp in zip(decisions, replayed.equal, strict=True):
        ids.setdefault(decision.transaction_id, set()).add(decision.decision_id)
        if is_by_stamp:  # the others are counted by the replay
            content.setdefault((decision.transaction_id, decision.model_version), set()).add(record.value)
    repeats, longest, out_of_order = _order(places)
    letter_repeats, longest_letters, letters_out_of_order = _order(
        [(about.partition, about.offset) for _, about in letters if about]
    )
    published = _published(settings)
    versions = [decision.model_version for _, decision in decisions]
    recounted = _recounted(settings, inputs, dict(zip(places, versions, strict=True)))
    features = _compare_features(settings, inputs, set(places))
    return AuditResult(
        inputs=len(inputs),
        decided_once=sum(n == 1 for n in answers.values()),
        decided_more_than_once=sum(n > 1 for n in answers.values()),
        repeats=repeats + letter_repeats,
        longest_repeat=max(longest, longest_letters),
        dead_lettered=len(letter_of),
        lost=len(consumed - answers.keys() - letter_of.keys()),
        unequal_ids=sum(len(found) > 1 for found in ids.values()),
        unequal_content=sum(len(found) > 1 for found in content.values()),
        out_of_order=out_of_order + letters_out_of_order,
        panes=len(published),
        panes_unequal=len(_unequal(published, recounted)),
        features=features.decisions,
        features_unequal=features.unequal,
        features_repeated=features.repeated,
        features_incomplete=features.incomplete,
        rule_states=replayed.states,
        rules_unequal=replayed.unequal,
        rules_by_zombies=replayed.by_zombies,
    )


def _all(settings: Settings, topic: str) -> list[Any]:
    return [record for records in read_to_end(settings.bootstrap, topic) for record in records]


class FeatureCounts(NamedTuple):
    """The feature log against an offline pass."""

    decisions: int = 0  # in the log
    unequal: int = 0
    repeated: int = 0
    incomplete: int = 0


def _compare_features(settings: Settings, inputs: Sequence[Any], decided: set[tuple[int, int]]) -> FeatureCounts:
    dataset = load_dataset(settings.dataset)
    if not dataset.profiles:
        return FeatureCounts()
    from scoring.profiles.replay import Transactions, replay_profiles

    plan = ProfilePlan.of(dataset)
    logged: dict[tuple[int, int], list[FeatureRecord]] = {}
    for record in _all(settings, settings.feature_log_topic):
        feature = msgspec.json.decode(record.value, type=FeatureRecord)
        logged.setdefault((record.partition, feature.input_offset), []).append(feature)
    policy = HandlerPolicy.from_settings(settings, dataset, counting=False)
    transactions = Transactions(plan)
    for start in range(0, len(inputs), 10_000):
        chunk = inputs[start : start + 10_000]
        cleaned, _ = clean_records(chunk, policy)
        transactions.update(cleaned, [r.partition for r in chunk], [r.offset for r in chunk])
    rows = replay_profiles(transactions)
    places = zip(rows.partitions.tolist(), rows.offsets.tolist(), strict=True)
    offline = dict(zip(places, rows.values, strict=True))
    # While a partition lags behind, features of other entities lack tiles, and the record states it.
    exact = list(map(int, plan.columns_of("key")))
    unequal = incomplete = 0
    for place in decided | logged.keys():
        features, expected = logged.get(place, []), offline.get(place)
        incomplete += any(not feature.complete for feature in features)
        equal = expected is not None and features and all(_is_equal(f, expected, exact) for f in features)
        unequal += not equal
    return FeatureCounts(len(logged), unequal, sum(map(len, logged.values())) - len(logged), incomplete)


def _is_equal(feature: FeatureRecord, expected: Matrix, exact: list[int]) -> bool:
    found = np.frombuffer(feature.values, VALUE_TYPE)
    columns: Any = slice(None) if feature.complete else exact
    return bool(found[columns].tobytes() == expected.astype(VALUE_TYPE)[columns].tobytes())


def _order(places: Sequence[tuple[int, int]]) -> tuple[int, int, int]:
    """Number of repeats, longest run of them in a partition, and number of first answers out of order.

    >>> _order([(0, 1), (0, 2), (0, 1), (0, 2), (0, 5), (0, 4)])
    (2, 2, 1)
    """
    seen: set[tuple[int, int]] = set()
    highest: dict[int, int] = {}
    run: Counter[int] = Counter()
    repeats = longest = late = 0
    for partition, offset in places:
        if (partition, offset) in seen:
            repeats += 1
            run[partition] += 1
            longest = max(longest, run[partition])
            continue
        run[partition] = 0
        seen.add((partition, offset))
        late += offset < highest.get(partition, -1)
        highest[partition] = max(offset, highest.get(partition, -1))
    return repeats, longest, late


def _published(settings: Settings) -> Counts:
    found: Counts = {}
    models: dict[int, MonitoredModel] = {}
    for record in _all(settings, settings.drift_panes_topic):
        snapshot = msgspec.json.decode(record.value, type=PaneSnapshot)
        model = models.setdefault(snapshot.model_version, _model(settings, snapshot.model_version))
        for pane in panes_of(snapshot, model.bins):
            found[snapshot.model_version, pane.partition, pane.start_ms] = pane.rows, tuple(pane.counts.tolist())
    return found


def _recounted(settings: Settings, inputs: Sequence[Any], decided_by: dict[tuple[int, int], int]) -> list[Counts]:
    """Recount all transactions in one pass, without a worker, with the version that decided each.

    A dead letter does not state its version. Between decisions of two versions both are possible, so there are two
    recounts.
    """
    return [_recount(settings, inputs, decided_by, backwards) for backwards in (False, True)]


def _recount(
    settings: Settings, inputs: Sequence[Any], decided_by: dict[tuple[int, int], int], backwards: bool
) -> Counts:
    policy = HandlerPolicy.from_settings(settings, load_dataset(settings.dataset), counting=True)
    mine: dict[tuple[int, int], list[Any]] = {}
    last: dict[int, int] = {}
    for record in reversed(inputs) if backwards else inputs:
        version = decided_by.get((record.partition, record.offset), last.get(record.partition))
        if version is not None:
            last[record.partition] = version
            mine.setdefault((version, record.partition), []).append(record)
    found: Counts = {}
    for (version, partition), records in mine.items():
        model = _model(settings, version)
        records.sort(key=lambda r: r.offset)
        fold = PartitionPanes(model.bins, partition, settings.allowed_lateness_minutes * MINUTE_MS)
        for start in range(0, len(records), 10_000):
            chunk = records[start : start + 10_000]
            coded = handle(chunk, model, policy).coded
            if coded is not None:
                fold.update(coded.codes, coded.event_times_ms, np.array([r.offset for r in chunk]))
            counted = fold.snapshot()
            for pane in (*counted.closed, *counted.open):
                found[version, partition, pane.start_ms] = pane.rows, tuple(pane.counts.tolist())
    return found


def _unequal(published: Counts, recounted: Sequence[Counts]) -> list[PaneKey]:
    keys = published.keys() | set.intersection(*(set(count) for count in recounted))
    return [key for key in keys if all(published.get(key) != count.get(key) for count in recounted)]


def _model(settings: Settings, version: int) -> MonitoredModel:
    return ChampionCache(settings, load_dataset(settings.dataset)).at_version(version)
