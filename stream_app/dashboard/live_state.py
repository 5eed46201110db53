"""The dashboard's state of decisions, dead letters, incidents and model versions: a fold over records. Pure.

Memory is bounded for any input: per-second counts by a time span, everything else by number. There is no clock
inside; callers pass `now_ms`. Records count in the second of their Kafka timestamp. Records outside the span, late or
ahead of the clock, count in no rate.
"""

from collections import Counter, OrderedDict, deque
from dataclasses import dataclass, field

import msgspec
import numpy as np

from monitoring.counting.bins import FeatureBins
from schemas.records import MAX_ALERT_CARDS, Decision, DriftAlert, ModelEvent, Outcome
from schemas.security.sanitizer import MAX_NAME_LENGTH, OTHER, printable
from scoring.decision import reason_texts
from scoring.explanations import MAX_REASONS
from stream_app.dashboard.messages import Histogram, IncidentView, RecentDecision, Seconds

HISTORY_S = 180
MAX_AHEAD_S = 60  # tolerated clock difference between machines
MAX_SCORES = 10_000  # in the histogram
MAX_RECENT = 12  # approvals; and as many reviews and declines
MAX_DECISION_IDS = 20_000  # decision ids, so that decisions repeated after a crash count once
MAX_INCIDENTS = 100
MAX_EVENTS = 40
MAX_CODES = 20  # of dead letters, per second and in total; any producer may write headers
MAX_VERSIONS = 20  # of models, per second and in total
MAX_FEATURES = 10  # per incident
MAX_LATENCIES_PER_SECOND = 2_000
MAX_TEXTS = MAX_REASONS + 1  # of a decision: the rule that decided, and the reasons of the score
MAX_TEXT_LENGTH = 400  # characters of an untrusted text


@dataclass
class _Second:
    decisions: int = 0
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    versions: Counter[int] = field(default_factory=Counter)
    latencies_ms: list[float] = field(default_factory=list)


class LiveState:
    """The fold. Not thread-safe: callers hold a lock."""

    def __init__(self, model: str) -> None:
        """model: the model to show; records of other models are ignored."""
        self._model = model
        self._seconds: dict[int, _Second] = {}
        self._scores: deque[float] = deque(maxlen=MAX_SCORES)
        self._approved: deque[RecentDecision] = deque(maxlen=MAX_RECENT)
        self._flagged: deque[RecentDecision] = deque(maxlen=MAX_RECENT)  # reviews and declines, which are rarer
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._incidents: OrderedDict[str, DriftAlert] = OrderedDict()
        self._events: OrderedDict[tuple[int, int | None, str], ModelEvent] = OrderedDict()
        self.skipped_records = 0
        self.unread_decisions = 0

    def update_decision(self, decision: Decision, at_ms: int, now_ms: int) -> None:
        """Add a decision, once per decision id. at_ms: the record's Kafka timestamp. Times in ms since 1970."""
        if decision.model != self._model:
            return
        if not 0.0 <= decision.score <= 1.0:
            self.skipped_records += 1
            return
        id_ = decision.decision_id[:MAX_TEXT_LENGTH]
        if id_ in self._seen:
            return
        self._seen[id_] = None
        if len(self._seen) > MAX_DECISION_IDS:
            self._seen.popitem(last=False)
        self._scores.append(decision.score)
        row = RecentDecision(
            transaction_id=printable(decision.transaction_id, MAX_TEXT_LENGTH),
            decided_at_ms=at_ms,
            outcome=decision.outcome,
            score=decision.score,
            model_version=decision.model_version,
            reasons=tuple(printable(text, MAX_TEXT_LENGTH) for text in reason_texts(decision)[:MAX_TEXTS]),
        )
        (self._approved if row.outcome == "approve" else self._flagged).append(row)
        if (second := self._second(at_ms, now_ms)) is not None:
            second.decisions += 1
            second.outcomes[decision.outcome] += 1
            if decision.model_version in second.versions or len(second.versions) < MAX_VERSIONS:
                second.versions[decision.model_version] += 1

    def update_unread(self, decisions: int, now_ms: int) -> None:
        """Add decisions that were skipped because of lag. They count in the rate only."""
        self.unread_decisions += decisions
        if (second := self._second(now_ms, now_ms)) is not None:
            second.decisions += decisions

    def update_dead_letter(self, code: str, at_ms: int, now_ms: int) -> None:
        """Add a dead letter. Beyond `MAX_CODES` codes it counts as `other`."""
        if (second := self._second(at_ms, now_ms)) is not None:
            name = printable(code, MAX_NAME_LENGTH)
            second.codes[name if name in second.codes or len(second.codes) < MAX_CODES else OTHER] += 1

    def update_latency(self, latency_ms: float, at_ms: int, now_ms: int) -> None:
        """Add the latency of a transaction that was decided at `at_ms`."""
        second = self._second(at_ms, now_ms)
        if second is not None and len(second.latencies_ms) < MAX_LATENCIES_PER_SECOND:
            second.latencies_ms.append(max(0.0, latency_ms))

    def update_alert(self, alert: DriftAlert) -> None:
        """Update the alert's incident. An alert not newer than the incident's last one changes nothing."""
        id_ = printable(alert.incident_id, MAX_TEXT_LENGTH)
        known = self._incidents.get(id_)
        if alert.model != self._model or (known is not None and known.happened_at_ms >= alert.happened_at_ms):
            return
        self._incidents[id_] = msgspec.structs.replace(
            alert,
            incident_id=id_,
            features=tuple(printable(name, MAX_NAME_LENGTH) for name in alert.features[:MAX_FEATURES]),
            summary=printable(alert.summary, MAX_TEXT_LENGTH),
            evidence=(),
            examples=(),
            cards=tuple(dict.fromkeys((*(known.cards if known is not None else ()), *alert.cards)))[:MAX_ALERT_CARDS],
        )
        self._incidents.move_to_end(id_)
        while len(self._incidents) > MAX_INCIDENTS:
            self._incidents.popitem(last=False)

    def update_model_event(self, event: ModelEvent) -> None:
        """Add a change of a model version. A repeated event is stored once."""
        if event.model != self._model:
            return
        key = event.happened_at_ms, event.model_version, event.change
        self._events[key] = msgspec.structs.replace(
            event,
            reason=printable(event.reason, MAX_TEXT_LENGTH),
            by=printable(event.by, MAX_TEXT_LENGTH),
            correlation_id=printable(event.correlation_id, MAX_TEXT_LENGTH)
            if event.correlation_id is not None
            else None,
        )
        while len(self._events) > MAX_EVENTS:
            del self._events[min(self._events, key=lambda key: key[0])]

    @property
    def version(self) -> int | None:
        """The model version of most decisions of the last minutes; None before the first decision."""
        if total := self.versions():
            return max(total, key=lambda version: (total[version], version))
        return max((row.model_version for row in self.recent), default=None)

    def versions(self) -> Counter[int]:
        """Number of decisions by model version, for the most frequent versions."""
        total: Counter[int] = sum((s.versions for s in self._seconds.values()), Counter())
        return Counter(dict(total.most_common(MAX_VERSIONS)))

    def outcomes(self) -> Counter[Outcome]:
        """Number of decisions by outcome."""
        return sum((s.outcomes for s in self._seconds.values()), Counter())

    def codes(self) -> Counter[str]:
        """Number of dead letters by code: the most frequent codes, all others together as `other`."""
        total: Counter[str] = sum((s.codes for s in self._seconds.values()), Counter())
        named = Counter(dict(total.most_common(MAX_CODES)))
        if rest := total.total() - named.total():
            named[OTHER] += rest
        return named

    def seconds(self, now_ms: int) -> Seconds:
        """The last `HISTORY_S` whole seconds before now. Drops older seconds."""
        now_s = now_ms // 1000
        for old in [s for s in self._seconds if s < now_s - HISTORY_S or s > now_s + MAX_AHEAD_S]:
            del self._seconds[old]
        at = range(now_s - HISTORY_S, now_s)
        found = [self._seconds.get(s) or _Second() for s in at]
        quantiles = [np.percentile(s.latencies_ms, [50, 99]).tolist() if s.latencies_ms else [None] * 2 for s in found]
        return Seconds(
            at_ms=tuple(1000 * s for s in at),
            decisions=tuple(s.decisions for s in found),
            dead_letters=tuple(s.codes.total() for s in found),
            p50_ms=tuple(p50 for p50, _ in quantiles),
            p99_ms=tuple(p99 for _, p99 in quantiles),
        )

    def scores(self, bins: FeatureBins) -> Histogram | None:
        """Distribution of the last scores and of the reference, in the reference's bins; None without a score."""
        if not self._scores:
            return None
        codes = bins.encode(np.array(self._scores))
        now = np.bincount(bins.bin_of_code[codes], minlength=bins.n_bins)
        return Histogram(
            labels=bins.labels,
            reference=tuple((bins.reference_bins / bins.reference_bins.sum()).tolist()),
            current=tuple((now / now.sum()).tolist()),
            rows=len(self._scores),
        )

    @property
    def recent(self) -> tuple[RecentDecision, ...]:
        """The last approvals, reviews and declines, newest first."""
        return tuple(sorted((*self._approved, *self._flagged), key=lambda row: -row.decided_at_ms))

    @property
    def incidents(self) -> tuple[IncidentView, ...]:
        """Open incidents: critical first, then the longest open."""
        opened = [a for a in self._incidents.values() if a.change != "closed"]
        return tuple(
            IncidentView(
                incident_id=a.incident_id,
                kind=a.kind,
                severity=a.severity,
                model_version=a.model_version,
                features=a.features,
                summary=a.summary,
                opened_at_ms=a.opened_at_ms,
                happened_at_ms=a.happened_at_ms,
                cards=a.cards,
            )
            for a in sorted(opened, key=lambda a: (a.severity != "critical", a.opened_at_ms))
        )

    @property
    def events(self) -> tuple[ModelEvent, ...]:
        """Changes of model versions, newest first."""
        return tuple(sorted(self._events.values(), key=lambda e: -e.happened_at_ms))

    def _second(self, at_ms: int, now_ms: int) -> _Second | None:
        second, now_s = at_ms // 1000, now_ms // 1000
        if not now_s - HISTORY_S <= second <= now_s + MAX_AHEAD_S:
            return None
        return self._seconds.setdefault(second, _Second())
