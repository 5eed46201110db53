"""What the page says of decisions, dead letters, incidents and model versions: a fold over records. Pure.

Bounded however much comes: seconds by a span, all else by number. No clock inside: `now_ms` is passed in. A second is
that of the record's Kafka timestamp; what lies beyond the span, late or ahead of the clock, has no part in a rate.
"""

from collections import Counter, OrderedDict, deque
from dataclasses import dataclass, field

import msgspec
import numpy as np

from monitoring.counting.bins import FeatureBins
from schemas.records import Decision, DriftAlert, ModelEvent, Outcome
from schemas.security.sanitizer import MAX_NAME_LENGTH, OTHER, printable
from stream_app.dashboard.messages import Histogram, IncidentView, Recent, Seconds

HISTORY_S = 180
MAX_AHEAD_S = 60  # by which another machine's clock may be wrong
SCORES = 10_000  # in the histogram
RECENT = 12  # approvals; and as many that were stopped
MAX_REMEMBERED = 20_000  # decision ids, so that what a crash repeated counts once
INCIDENTS = 100
EVENTS = 40
CODES = 20  # of dead letters, in a second and in all; anybody may write headers
VERSIONS = 20  # of models, likewise
FEATURES = 10  # of an incident
LATENCIES = 2_000  # of one second
MAX_TEXT_LENGTH = 400  # characters of a text that others wrote


@dataclass
class _Second:
    decisions: int = 0
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    versions: Counter[int] = field(default_factory=Counter)
    latencies_ms: list[float] = field(default_factory=list)


class LiveState:
    """The fold. One thread writes and reads it."""

    def __init__(self, model: str) -> None:
        """model: whose decisions, alerts and events count; others' are passed by."""
        self._model = model
        self._seconds: dict[int, _Second] = {}
        self._scores: deque[float] = deque(maxlen=SCORES)
        self._approved: deque[Recent] = deque(maxlen=RECENT)
        self._stopped: deque[Recent] = deque(maxlen=RECENT)  # those have reasons, and would drown among approvals
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._incidents: OrderedDict[str, DriftAlert] = OrderedDict()
        self._events: OrderedDict[tuple[int, int | None, str], ModelEvent] = OrderedDict()
        self.passed_over = 0
        self.unread = 0

    def decided(self, decision: Decision, at_ms: int, now_ms: int) -> None:
        """Take in a decision. at_ms: the record's Kafka timestamp, which is when it was made."""
        if decision.model != self._model:
            return
        if not 0.0 <= decision.score <= 1.0:
            self.passed_over += 1
            return
        id_ = decision.decision_id[:MAX_TEXT_LENGTH]
        if id_ in self._seen:
            return
        self._seen[id_] = None
        if len(self._seen) > MAX_REMEMBERED:
            self._seen.popitem(last=False)
        self._scores.append(decision.score)
        row = Recent(
            transaction_id=printable(decision.transaction_id, MAX_TEXT_LENGTH),
            decided_at_ms=at_ms,
            outcome=decision.outcome,
            score=decision.score,
            model_version=decision.model_version,
            reasons=tuple(printable(reason.text, MAX_TEXT_LENGTH) for reason in decision.reasons[:3]),
        )
        (self._approved if row.outcome == "approve" else self._stopped).append(row)
        if (second := self._second(at_ms, now_ms)) is not None:
            second.decisions += 1
            second.outcomes[decision.outcome] += 1
            if decision.model_version in second.versions or len(second.versions) < VERSIONS:
                second.versions[decision.model_version] += 1

    def only_counted(self, decisions: int, now_ms: int) -> None:
        """Decisions that came faster than they are read: they count in the rate, and in nothing else."""
        self.unread += decisions
        if (second := self._second(now_ms, now_ms)) is not None:
            second.decisions += decisions

    def dead(self, code: str, at_ms: int, now_ms: int) -> None:
        """Take in a dead letter."""
        if (second := self._second(at_ms, now_ms)) is not None:
            name = printable(code, MAX_NAME_LENGTH)
            second.codes[name if name in second.codes or len(second.codes) < CODES else OTHER] += 1

    def took(self, latency_ms: float, at_ms: int, now_ms: int) -> None:
        """Take in how long one transaction that was decided at `at_ms` waited for it."""
        second = self._second(at_ms, now_ms)
        if second is not None and len(second.latencies_ms) < LATENCIES:
            second.latencies_ms.append(max(0.0, latency_ms))

    def alerted(self, alert: DriftAlert) -> None:
        """Take in an alert. One that is older than what is known of its incident, or known, changes nothing."""
        id_ = printable(alert.incident_id, MAX_TEXT_LENGTH)
        known = self._incidents.get(id_)
        if alert.model != self._model or (known is not None and known.happened_at_ms >= alert.happened_at_ms):
            return
        self._incidents[id_] = msgspec.structs.replace(
            alert,
            incident_id=id_,
            features=tuple(printable(name, MAX_NAME_LENGTH) for name in alert.features[:FEATURES]),
            summary=printable(alert.summary, MAX_TEXT_LENGTH),
            evidence=(),
            examples=(),
        )
        self._incidents.move_to_end(id_)
        while len(self._incidents) > INCIDENTS:
            self._incidents.popitem(last=False)

    def moved(self, event: ModelEvent) -> None:
        """Take in what became of a model version; told twice it stands once."""
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
        while len(self._events) > EVENTS:
            del self._events[min(self._events, key=lambda key: key[0])]

    @property
    def version(self) -> int | None:
        """The model version that decided most of the last minutes' transactions; None before there were any."""
        if total := self.versions():
            return max(total, key=lambda version: (total[version], version))
        return max((row.model_version for row in self.recent), default=None)

    def versions(self) -> Counter[int]:
        """Decisions by model version, the most frequent ones."""
        total: Counter[int] = sum((s.versions for s in self._seconds.values()), Counter())
        return Counter(dict(total.most_common(VERSIONS)))

    def outcomes(self) -> Counter[Outcome]:
        """Decisions by outcome."""
        return sum((s.outcomes for s in self._seconds.values()), Counter())

    def codes(self) -> Counter[str]:
        """Dead letters by code, the most frequent ones by name and all others as one."""
        total: Counter[str] = sum((s.codes for s in self._seconds.values()), Counter())
        named = Counter(dict(total.most_common(CODES)))
        if rest := total.total() - named.total():
            named[OTHER] += rest
        return named

    def seconds(self, now_ms: int) -> Seconds:
        """The last whole seconds before now; forgets what lies before them."""
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
        """The last scores beside the reference's, in the reference's bins; None while there is none."""
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
    def recent(self) -> tuple[Recent, ...]:
        """The last approvals and the last that were stopped, newest first."""
        return tuple(sorted((*self._approved, *self._stopped), key=lambda row: -row.decided_at_ms))

    @property
    def incidents(self) -> tuple[IncidentView, ...]:
        """Open incidents, critical ones first, then the longest open."""
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
            )
            for a in sorted(opened, key=lambda a: (a.severity != "critical", a.opened_at_ms))
        )

    @property
    def events(self) -> tuple[ModelEvent, ...]:
        """What became of model versions, newest first."""
        return tuple(sorted(self._events.values(), key=lambda e: -e.happened_at_ms))

    def _second(self, at_ms: int, now_ms: int) -> _Second | None:
        second, now_s = at_ms // 1000, now_ms // 1000
        if not now_s - HISTORY_S <= second <= now_s + MAX_AHEAD_S:
            return None
        return self._seconds.setdefault(second, _Second())
