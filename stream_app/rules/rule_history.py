"""Earlier states of rules and lists, read from their topics: for explanations, replays and takeovers."""

import asyncio
import logging

from faust.types import TP

from schemas.configuration.settings import Settings
from schemas.dataset.declaration import Dataset
from schemas.rules import ListEntry, RulesetRecord
from schemas.topics import MAX_RECORD_BYTES
from scoring.rules.list_state import ListState
from scoring.rules.rule_state import RuleFold, RuleState
from stream_app.kafka.record_validation import RecordIntake
from stream_app.kafka.topic_reader import read_to_end
from stream_app.offsets.offset_validation import is_same_topic
from stream_app.offsets.partition_positions import OffsetSource
from stream_app.rules.activation_log import ActivationLog, RuleVersion, Stamp, log_id
from stream_app.rules.activation_reader import read_activations

log = logging.getLogger("tamiz.rules")


class RuleHistory:
    """All that `rules` and `lists` hold at its creation."""

    def __init__(self, settings: Settings, dataset: Dataset) -> None:
        """Raises BrokerError or KafkaError if they cannot be read."""
        self._settings = settings
        places = TP(settings.rules_topic, 0), TP(settings.lists_topic, 0)
        cluster = OffsetSource(settings, (settings.rules_topic, settings.lists_topic))
        try:
            found = cluster.topics()
            ends = cluster.ends(places)
        finally:
            cluster.close()
        (rules_begin, self._rules_end), (lists_begin, self._lists_end) = (ends[place] for place in places)
        self._rules_id = log_id(found[settings.rules_topic].id, rules_begin)
        self._lists_id = log_id(found[settings.lists_topic].id, lists_begin)
        self._entries = read_entries(settings)
        self._fold = RuleFold(dataset, second_person=False)  # stamps name the ruleset that was in force
        intake = RecordIntake(settings, log)
        for records in read_to_end(settings.bootstrap, settings.rules_topic, keep_bytes=MAX_RECORD_BYTES):
            own = [record for record in records if record.partition == 0]
            self._fold.add_rulesets([(e, r.value or b"") for r in own if (e := intake.read(r, RulesetRecord))])

    def state_of(self, version: RuleVersion) -> RuleState | None:
        """The state that a stamp names; None if its records are gone."""
        if version.ruleset is not None and not is_same_topic(version.rules_topic_id, self._rules_id):
            return None
        if version.lists_offset and not is_same_topic(version.lists_topic_id, self._lists_id):
            return None
        return self._fold.with_ruleset(version.ruleset, lists_before(self._entries, version.lists_offset))

    def stamps(self, partitions: dict[int, int | None], topic_id: str) -> dict[int, ActivationLog]:
        """The stamps of input partitions, back to the one that holds for an offset each; None: all of them.

        topic_id: of the input topic.
        """
        s = self._settings
        found = asyncio.run(
            read_activations(
                s.bootstrap,
                s.rule_activations_topic,
                {partition: -1 if offset is None else offset for partition, offset in partitions.items()},
                group=s.consumer_group,
                topic_id=topic_id,
                is_plausible=self._has,
            )
        )
        return {partition: each.log for partition, each in found.items()}

    def _has(self, stamp: Stamp) -> bool:
        return stamp.is_within(self._rules_id, self._rules_end, self._lists_id, self._lists_end)


def read_entries(settings: Settings) -> list[tuple[int, ListEntry]]:
    """The valid records of `lists` with their offsets. Raises BrokerError or KafkaError."""
    intake = RecordIntake(settings, log)
    return [
        (record.offset, entry)
        for records in read_to_end(settings.bootstrap, settings.lists_topic, keep_bytes=MAX_RECORD_BYTES)
        for record in records
        if record.partition == 0 and (entry := intake.read(record, ListEntry)) is not None
    ]


def lists_before(entries: list[tuple[int, ListEntry]], offset: int) -> ListState:
    """The lists before an offset of `lists`."""
    return ListState().updated([entry for at, entry in entries if at < offset])
