"""Follows `rules` and `lists`: the current state of rules and lists, and those of earlier moments.

A thread reads partition 0 of both from the start, without a consumer group. A worker is ready when it has read what was
there at its start. Invalid records are skipped, counted and logged. When the broker does not respond, the last state
holds.

The state is a function of what the topics hold. So a topic that is recreated, is shorter than what was read, or whose
first records were deleted is read again from its start; that is counted and logged.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

from faust.types import TP
from kafka import TopicPartition

from schemas.configuration.settings import Settings
from schemas.dataset.declaration import Dataset
from schemas.errors import BrokerError
from schemas.rules import ListEntry, RulesetRecord
from scoring.rules.list_state import ListState
from scoring.rules.rule_state import RuleFold, RuleState
from scoring.rules.ruleset_log import LoggedRuleset
from stream_app.kafka.follower_thread import FollowerThread
from stream_app.kafka.record_validation import RecordIntake
from stream_app.offsets.offset_validation import is_same_topic
from stream_app.offsets.partition_positions import OffsetSource
from stream_app.rules.activation_log import RuleVersion, Stamp, log_id
from stream_app.rules.activation_metrics import ActivationMetrics
from stream_app.rules.rule_history import lists_before, read_entries

log = logging.getLogger("tamiz.rules")
POLL_TIMEOUT_MS = 500  # a broker answers at once when there are records; each poll costs 3 ms of CPU time
MAX_POLL_RECORDS = 5_000
CHECK_INTERVAL_S = 5.0  # for topics that are recreated or truncated
MAX_EARLIER_STATES = 1_000  # of lists; they share what did not change
MAX_REBUILT_STATES = 8


class CurrentRules(NamedTuple):
    """The state after all that is read."""

    version: RuleVersion
    rules_offset: int  # records of `rules` before it are read
    state: RuleState

    def stamp(self, from_offset: int) -> Stamp:
        """The stamp of this state from an offset on."""
        return Stamp(from_offset, self.version, self.rules_offset, int(time.time() * 1000))

    def covers(self, stamp: Stamp) -> bool:
        """Whether all that a stamp names is read. Topics of another id than those that are read cannot be compared."""
        version = self.version
        return stamp.is_within(version.rules_topic_id, self.rules_offset, version.lists_topic_id, version.lists_offset)


class _Followed(NamedTuple):
    """A topic as it was when reading it began."""

    topic_id: str
    begin: int  # offset of its first record

    @property
    def log_id(self) -> str:
        """See `log_id`."""
        return log_id(self.topic_id, self.begin)


class RuleFollower(FollowerThread):
    """Reads `rules` and `lists`."""

    def __init__(self, settings: Settings, dataset: Dataset, metrics: ActivationMetrics) -> None:
        topics = settings.rules_topic, settings.lists_topic
        super().__init__(settings.bootstrap, topics, "tamiz-rule-follower", log)
        self._settings = settings
        self._metrics = metrics
        self._rules, self._lists = (TopicPartition(topic, 0) for topic in topics)
        self._intake = RecordIntake(settings, log, lambda topic: metrics.skipped.labels(topic).inc())
        self._cluster = OffsetSource(settings, topics)
        self._fold = RuleFold(dataset, second_person=settings.rules_second_person)
        self._followed: dict[TopicPartition, _Followed] = {}
        self._next: dict[TopicPartition, int] = {}  # offset of the next record
        self._lists_end = 0  # offset after the last valid entry
        self.current = CurrentRules(RuleVersion(None, "", 0, ""), 0, self._fold.state)
        self.refused: str | None = None  # why the last activated ruleset is not in force
        self._earlier: deque[tuple[str, int, ListState]] = deque(maxlen=MAX_EARLIER_STATES)  # topic id, offset
        self._rebuilt: dict[RuleVersion, RuleState] = {}
        self._lock = threading.Lock()  # of both

    @property
    def waiting_for(self) -> str | None:
        """What is not read yet, in one line; None if nothing is waited for."""
        return None if self._served >= self._requested else self.progress

    def state_of(self, version: RuleVersion) -> RuleState | None:
        """An earlier state, read again if necessary; None if its records are gone.

        Thread-safe. Raises BrokerError or KafkaError.
        """
        current = self.current
        if version == current.version:
            return current.state
        with self._lock:
            known = self._rebuilt.get(version)
        if known is not None:
            return known
        lists = self._lists_before(version)
        is_rules_topic = version.ruleset is None or is_same_topic(
            version.rules_topic_id, current.version.rules_topic_id
        )
        state = self._fold.with_ruleset(version.ruleset, lists) if lists is not None and is_rules_topic else None
        if state is not None:
            with self._lock:
                self._rebuilt[version] = state
                if len(self._rebuilt) > MAX_REBUILT_STATES:
                    del self._rebuilt[next(iter(self._rebuilt))]
        return state

    def _lists_before(self, version: RuleVersion) -> ListState | None:
        if version.lists_offset == 0:
            return ListState()
        topic_id, offset = version.lists_topic_id, version.lists_offset
        with self._lock:
            for known_id, known_offset, lists in reversed(self._earlier):
                if known_offset == offset and is_same_topic(known_id, topic_id):
                    return lists
        followed = self._followed.get(self._lists)
        if followed is None or not is_same_topic(followed.log_id, topic_id):
            return None
        log.info("reading %s again, up to offset %d", self._lists.topic, offset)
        return lists_before(read_entries(self._settings), offset)

    def stop(self) -> None:
        """Stop the thread and wait for it."""
        super().stop()
        self._cluster.close()

    # In the thread.

    def _follow(self) -> None:
        partitions = [self._rules, self._lists]
        self._check_logs()
        consumer = self._consumer(
            max_poll_records=MAX_POLL_RECORDS,
            poll_timeout_ms=POLL_TIMEOUT_MS,
            auto_offset_reset="none",  # `_check_logs` decides
        )
        try:
            self._partitions(consumer)
            consumer.assign(partitions)
            for tp in partitions:
                consumer.seek(tp, self._next[tp])
            checked_s = time.monotonic()
            while not self._stopping.is_set():
                if self._has_request or time.monotonic() - checked_s > CHECK_INTERVAL_S:
                    checked_s = time.monotonic()
                    if self._check_logs():
                        return  # read from the start
                if self._has_request:
                    self._take_request(consumer, partitions)
                is_at_end = self._note_positions(self._next)  # nothing to wait for
                self._fold_records(consumer.poll(timeout_ms=0 if is_at_end else POLL_TIMEOUT_MS))
                self._next = {tp: consumer.position(tp) for tp in partitions}
                is_served = self._note_positions(self._next)
                if self.is_ready or is_served:  # no state of the past, nor one of a part
                    self._publish()
                if is_served:
                    self._serve()
        finally:
            consumer.close()

    def _check_logs(self) -> bool:
        """Restart a topic whose log is not the one that was read. Returns whether there is one."""
        topics = self._cluster.topics()
        if missing := [tp.topic for tp in (self._rules, self._lists) if tp.topic not in topics]:
            raise BrokerError(f"topics missing: {', '.join(missing)}; create them with `tamiz topics create`")
        is_anew = False
        for place, (begin, end) in self._cluster.ends([TP(*self._rules), TP(*self._lists)]).items():
            tp = TopicPartition(*place)
            topic_id = topics[tp.topic].id
            before, at = self._followed.get(tp), self._next.get(tp, 0)
            self._followed[tp] = _Followed(topic_id, begin)
            if before is None:
                why = f"its records before offset {begin} were deleted" if begin else None
            elif not is_same_topic(before.topic_id, topic_id):
                why = "it was recreated"
            elif at > end:
                why = f"it ends at offset {end}, and offset {at} was read"
            else:
                why = f"its records before offset {begin} were deleted" if begin > before.begin else None
            if why is not None:
                self._metrics.topic_resets.labels(tp.topic).inc()
                log.error("%s: %s; what it holds now is read from the start and takes effect", tp.topic, why)
            if before is None or why is not None:
                is_anew |= before is not None
                self._forget(tp, begin)
        return is_anew

    def _forget(self, tp: TopicPartition, begin: int) -> None:
        self._next[tp] = begin
        if tp == self._rules:
            self._fold.forget_rulesets()
        else:
            self._fold.forget_entries()
            self._lists_end = 0
            with self._lock:
                self._earlier.clear()
                self._rebuilt.clear()
        with self._condition:
            self._served = self._serving = 0  # what it holds now is read before transactions meet it

    def _fold_records(self, fetched: dict[TopicPartition, Sequence[Any]]) -> None:
        for tp, records in fetched.items():
            if tp.topic == self._lists.topic:
                entries = [(r.offset, e) for r in records if (e := self._intake.read(r, ListEntry)) is not None]
                if entries:
                    self._fold.add_entries([entry for _, entry in entries])
                    self._lists_end = entries[-1][0] + 1
            else:
                found = [(r, made) for r in records if (made := self._intake.read(r, RulesetRecord)) is not None]
                for logged in self._fold.add_rulesets([(made, r.value) for r, made in found]):
                    self._note(logged)

    def _note(self, logged: LoggedRuleset) -> None:
        record = logged.record
        if logged.refused is not None:
            self.refused = f"ruleset {record.number} by {record.by} is refused: {logged.refused}"
            if self.is_ready:
                log.error("%s; the one before stays in force", self.refused)
        elif record.change == "activated":
            self.refused = None
        self._metrics.ruleset_refused.set(self.refused is not None)

    def _publish(self) -> None:
        state = self._fold.state
        rules, lists = self._followed[self._rules], self._followed[self._lists]
        version = RuleVersion(state.number, rules.log_id, self._lists_end, lists.log_id)
        before = self.current
        if version == before.version and self._next[self._rules] == before.rules_offset:
            return
        self.current = CurrentRules(version, self._next[self._rules], state)
        if version == before.version:
            return
        with self._lock:
            self._earlier.append((lists.log_id, self._lists_end, state.lists))
        self._metrics.ruleset.set(state.number or 0)
        self._metrics.list_entries.set(state.lists.n_entries)
        if version.ruleset != before.version.ruleset:
            n = 0 if state.ruleset is None else len(state.ruleset.rules)
            log.info("ruleset %s is in force, with %d rules", state.number, n)
