"""Live performance of rules and lists: their matches in decisions, joined with labels.

    decisions ─▶ matches ─▶ counted by rule, version and mode ─▶ kept until labelled and matured ─▶ precision
    labels ────▶ joined, or kept until their decision arrives ─┘

A fold without a clock. Its sums are in the last `RuleReport`, with the offsets up to which they count: after a restart,
records before these offsets are only remembered, so that labels that mature later find their matches.
"""

import heapq
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple

from monitoring.performance.label_weights import label_weight
from monitoring.performance.rule_counts import MatchCounter, RuleKey
from monitoring.performance.rule_problems import rule_alerts
from schemas.records import Decision, DriftAlert, Effect, Label, RuleMatch
from schemas.rule_report import MAX_REPORTED_RULES, RuleReport
from schemas.rules import RulesetRecord

MAX_RULE_NAME_LENGTH = 64  # characters; only a forged match has a longer one
MAX_RULESETS = 100  # that are remembered, the latest ones
MAX_SEEN = 100  # numbers of rulesets that decisions named last


@dataclass(frozen=True, kw_only=True)
class RulePolicy:
    """When labels are final, and limits of memory."""

    maturity_ms: int = 0  # age of a transaction from which its label is final
    remembered: int = 100_000  # maximum number of matched decisions that wait for a label, about 500 bytes each
    early: int = 50_000  # maximum number of labels that wait for their decision


class _Matched:
    """A matched decision that waits for its label; kept afterwards to recognise duplicates."""

    __slots__ = (
        "counted",
        "decided_before",
        "event_time_ms",
        "forgotten",
        "fraud",
        "honest",
        "known",
        "labelled_before",
        "matured",
        "reported_at_ms",
        "weight",
    )

    def __init__(self, decision: Decision, known: tuple[tuple[RuleKey, bool], ...], is_new: bool) -> None:
        self.event_time_ms = decision.event_time_ms
        self.known = known  # by key, whether neither the model nor another live rule or list flags it
        self.weight = label_weight(decision)
        self.honest = decision.outcome != "decline"
        self.fraud: bool | None = None
        self.reported_at_ms = 0
        # Of the records before the offsets of the restored sums; these count the label if it was final then.
        self.decided_before, self.labelled_before = not is_new, False
        self.matured = self.counted = self.forgotten = False


class RuleEvaluation(NamedTuple):
    """Result of one evaluation."""

    report: RuleReport
    alerts: tuple[DriftAlert, ...]


class RulePerformance:
    """Counts the matches of rules and lists."""

    def __init__(self, model: str, policy: RulePolicy | None = None, restored: RuleReport | None = None) -> None:
        """restored: the last report, whose sums continue."""
        self._model, self._policy = model, policy or RulePolicy()
        self._counters: dict[RuleKey, MatchCounter] = {}
        self._rulesets: dict[int, dict[RuleKey, Effect]] = {}  # rules, live and in shadow
        self._seen: OrderedDict[int, None] = OrderedDict()  # numbers of rulesets in decisions, latest last
        self._by_id: OrderedDict[str, _Matched] = OrderedDict()  # oldest first
        self._maturing: list[tuple[int, int, _Matched]] = []  # heap by event time
        self._order = count()
        self._early: OrderedDict[str, tuple[Label, bool]] = OrderedDict()
        self._until_ms = self._restored_until_ms = -1
        self._version = 0
        self._ruleset: int | None = None
        self._decisions: dict[str, int] = {}  # by partition: offset of the next record
        self._labels: dict[str, int] = {}
        if restored is not None:
            self._until_ms = self._restored_until_ms = restored.until_ms
            self._version, self._ruleset = restored.model_version, restored.ruleset
            self._decisions, self._labels = dict(restored.decisions), dict(restored.labels)
            self._counters = {(c := MatchCounter.of(counts)).key: c for counts in restored.rules}
        self._changed = False

    def add_ruleset(self, record: RulesetRecord) -> None:
        """Add a ruleset of the history."""
        self._rulesets[record.number] = {
            RuleKey("rule", r.id, r.version, r.mode): r.effect for r in record.content.rules if r.mode != "off"
        }
        if len(self._rulesets) > MAX_RULESETS:
            del self._rulesets[min(self._rulesets)]

    def add_decision(self, decision: Decision, partition: int, offset: int) -> None:
        """Add a decision; a second decision of the same transaction is ignored."""
        is_new = _advance(self._decisions, partition, offset)
        if is_new and decision.ruleset is not None:
            self._seen[decision.ruleset] = None
            self._seen.move_to_end(decision.ruleset)
            if len(self._seen) > MAX_SEEN:
                self._seen.popitem(last=False)
        if is_new:
            self._version = decision.model_version
        name = decision.transaction_id
        matches = [match for match in decision.matches if len(match.name) <= MAX_RULE_NAME_LENGTH]
        if not matches or name in self._by_id:
            return
        matched = self._matched(decision, matches, is_new)
        self._by_id[name] = matched
        heapq.heappush(self._maturing, (matched.event_time_ms, next(self._order), matched))
        if (early := self._early.pop(name, None)) is not None:
            self._join(matched, *early)
        if len(self._by_id) > self._policy.remembered:
            self._by_id.popitem(last=False)[1].forgotten = True
        if len(self._maturing) > 2 * self._policy.remembered:
            self._maturing = [entry for entry in self._maturing if not entry[2].forgotten]
            heapq.heapify(self._maturing)

    def add_label(self, label: Label, partition: int, offset: int) -> None:
        """Add a label. Of two that differ, the later reported one counts, until it is final."""
        is_new = _advance(self._labels, partition, offset)
        if label.fraud is None:  # a reviewer is not sure
            return
        if (matched := self._by_id.get(label.transaction_id)) is not None:
            self._join(matched, label, is_new)
            return
        known = self._early.get(label.transaction_id)
        if known is None or label.reported_at_ms > known[0].reported_at_ms:
            self._early[label.transaction_id] = label, is_new
        if len(self._early) > self._policy.early:
            self._early.popitem(last=False)

    def limit_offset(self, of_decisions: bool, partition: int, end: int) -> None:
        """Restart the offset of a partition of `decisions`, or else of `labels`, that is beyond the partition's end."""
        offsets = self._decisions if of_decisions else self._labels
        if offsets.get(str(partition), 0) > end:
            del offsets[str(partition)]

    def evaluate(self, until_ms: int) -> RuleEvaluation | None:
        """The statistics at an event time; None if nothing changed since the last evaluation."""
        if until_ms <= self._until_ms:
            return None
        self._until_ms = until_ms
        self._mature(until_ms - self._policy.maturity_ms)
        self._update_in_force()
        alerts = rule_alerts(self._counters.values(), until_ms, model=self._model, model_version=self._version)
        if not (self._changed or alerts):
            return None
        self._changed = False
        self._forget()
        return RuleEvaluation(self.report(), alerts)

    def report(self) -> RuleReport:
        """The statistics at the last evaluation."""
        return RuleReport(
            model=self._model,
            model_version=self._version,
            until_ms=self._until_ms,
            ruleset=self._ruleset,
            decisions=dict(self._decisions),
            labels=dict(self._labels),
            rules=tuple(c.counts() for c in sorted(self._counters.values(), key=_rank)),
        )

    def _matched(self, decision: Decision, matches: Sequence[RuleMatch], is_new: bool) -> _Matched:
        flagged = decision.model_outcome != "approve"
        keys = [RuleKey.of(match) for match in matches]
        flagging = {k for k, m in zip(keys, matches, strict=True) if m.mode == "live" and m.effect != "allow"}
        alone = [not flagged and not flagging - {key} for key in keys]
        if is_new:
            self._changed = True
            for key, match, is_alone in zip(keys, matches, alone, strict=True):
                self._counter(key, match.effect, decision.event_time_ms).add_match(
                    match,
                    [other.name for other in keys if other != key],
                    decision.event_time_ms,
                    flagged=flagged,
                    alone=is_alone,
                    declined=decision.outcome == "decline",
                )
        return _Matched(decision, tuple(zip(keys, alone, strict=True)), is_new)

    def _counter(self, key: RuleKey, effect: Effect, since_ms: int) -> MatchCounter:
        if key not in self._counters:
            self._counters[key] = MatchCounter(key, effect, since_ms)
            if len(self._counters) > 2 * MAX_REPORTED_RULES:
                self._forget()
        return self._counters[key]

    def _join(self, matched: _Matched, label: Label, is_new: bool) -> None:
        if matched.counted:
            return
        if matched.fraud is None or label.reported_at_ms > matched.reported_at_ms:
            matched.fraud, matched.reported_at_ms = label.fraud, label.reported_at_ms
        matched.labelled_before |= not is_new
        if matched.matured:
            self._count(matched)

    def _mature(self, until_ms: int) -> None:
        while self._maturing and self._maturing[0][0] <= until_ms:
            matched = heapq.heappop(self._maturing)[2]
            if matched.forgotten:
                continue
            matched.matured = True
            if matched.fraud is not None:
                self._count(matched)

    def _count(self, matched: _Matched) -> None:
        assert matched.fraud is not None
        matched.counted = True
        was_final = matched.event_time_ms <= self._restored_until_ms - self._policy.maturity_ms
        if not matched.honest or (was_final and matched.decided_before and matched.labelled_before):
            return
        self._changed = True
        for key, alone in matched.known:
            if key in self._counters:
                self._counters[key].add_label(matched.fraud, matched.weight, alone=alone)

    def _update_in_force(self) -> None:
        known = [number for number in self._seen if number in self._rulesets]
        if not known:
            return
        number = max(known)
        rules = self._rulesets[number]
        if number != self._ruleset:
            self._ruleset, self._changed = number, True
        for key, effect in rules.items():
            self._counter(key, effect, self._until_ms)
        for key, counter in self._counters.items():
            if key.kind == "rule":
                counter.in_force = key in rules

    def _forget(self) -> None:
        """Keep what is in force and what matched last."""
        kept = sorted(self._counters.values(), key=_rank)[:MAX_REPORTED_RULES]
        self._counters = {counter.key: counter for counter in kept}


def _rank(counter: MatchCounter) -> tuple[bool, int]:
    return (not counter.in_force or counter.key.kind == "list", -(counter.last_match_ms or counter.since_ms))


def _advance(offsets: dict[str, int], partition: int, offset: int) -> bool:
    """Whether a record is not counted yet; if so, it is now."""
    name = str(partition)
    if offset < offsets.get(name, 0):
        return False
    offsets[name] = offset + 1
    return True
