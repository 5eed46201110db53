"""Join of labels and decisions; final labels feed the performance metrics of each model version.

    decisions ─▶ kept by transaction id ─▶ matured, in order of event time ─▶ rolling metrics of each version
    labels ────▶ joined, or kept until their decision arrives ─┘

A fold without a clock: the caller passes `now`. A label counts when its transaction is older than the label delay.
Frauds are reported early and legitimate transactions late or never, so younger transactions show too many frauds.
"""

import heapq
from collections import OrderedDict
from itertools import count

from monitoring.performance.label_weights import label_weight
from monitoring.performance.rolling_metrics import PerformancePolicy, RollingPerformance, performance_alarm
from schemas.records import Decision, Label, LabelledDay, PerformanceReport
from schemas.time_units import DAY_MS

MAX_VERSIONS = 4  # with metrics at the same time; the least recently used is discarded


class _Remembered:
    """A decision that waits for its label; kept afterwards to recognise duplicates."""

    __slots__ = (
        "counted",
        "event_time_ms",
        "flagged",
        "forgotten",
        "fraud",
        "matured",
        "reported_at_ms",
        "score",
        "version",
        "weight",
    )

    def __init__(self, decision: Decision) -> None:
        self.event_time_ms = decision.event_time_ms
        self.score = decision.score
        self.flagged = decision.model_outcome != "approve"
        self.version = decision.model_version
        self.weight = label_weight(decision)
        self.fraud: bool | None = None
        self.reported_at_ms = 0
        self.matured = self.counted = self.forgotten = False


class LabelJoin:
    """Joins decisions and labels, and reports the performance of each model version."""

    def __init__(self, policy: PerformancePolicy | None = None) -> None:
        self._policy = policy or PerformancePolicy()
        self._by_id: OrderedDict[str, _Remembered] = OrderedDict()  # oldest first
        self._maturing: list[tuple[int, int, _Remembered]] = []  # heap by event time
        self._order = count()
        self._early: OrderedDict[str, Label] = OrderedDict()
        self._versions: OrderedDict[int, RollingPerformance] = OrderedDict()
        self._unknown = 0
        self._revised = 0
        self._unsure = 0
        self._looked: dict[int, tuple[int, str | None]] = {}  # by version: UTC day of the last check, its result

    def add_decision(self, decision: Decision) -> None:
        """Add a decision; a second decision of the same transaction is ignored."""
        name = decision.transaction_id
        if name in self._by_id:
            return
        remembered = _Remembered(decision)
        self._by_id[name] = remembered
        heapq.heappush(self._maturing, (remembered.event_time_ms, next(self._order), remembered))
        if (label := self._early.pop(name, None)) is not None:
            self._join(remembered, label)
        if len(self._by_id) > self._policy.remembered:
            self._by_id.popitem(last=False)[1].forgotten = True
        if len(self._maturing) > 2 * self._policy.remembered:
            self._maturing = [entry for entry in self._maturing if not entry[2].forgotten]
            heapq.heapify(self._maturing)

    def add_label(self, label: Label) -> None:
        """Add a label. Duplicates are ignored; of two that differ, the later reported one counts, until it is final.

        The label of a reviewer who is not sure is only counted.
        """
        if label.fraud is None:
            self._unsure += 1
            return
        remembered = self._by_id.get(label.transaction_id)
        if remembered is not None:
            self._join(remembered, label)
            return
        known = self._early.get(label.transaction_id)
        if known is None or label.reported_at_ms > known.reported_at_ms:
            self._early[label.transaction_id] = label
        if len(self._early) > self._policy.early:
            self._early.popitem(last=False)
            self._unknown += 1

    def report(self, model_version: int, now_ms: int) -> PerformanceReport:
        """Performance of a version on final labels at an event time."""
        rolling = self._advanced(model_version, now_ms)
        measured = rolling.measures()
        return PerformanceReport(
            matured=rolling.matured,
            labelled=rolling.labelled,
            rows=measured.rows,
            frauds=measured.frauds,
            expected_frauds=measured.expected,
            roc_auc=measured.roc_auc,
            claimed_roc_auc=measured.claimed_roc_auc,
            average_precision=measured.average_precision,
            recall=measured.recall,
            label_delay_ms=measured.delay_ms,
            days=tuple(
                LabelledDay(day_ms=day * DAY_MS, rows=rows, frauds=frauds, expected_frauds=expected)
                for day, (rows, frauds, expected) in sorted(rolling.days.items())
            ),
            unknown_labels=self._unknown + len(self._early),
            revised_labels=self._revised,
            unsure_labels=self._unsure,
            alarm=self.alarm(model_version, now_ms),
        )

    def alarm(self, model_version: int, now_ms: int) -> str | None:
        """Reason to retrain, in one sentence, or None. Checked once per UTC day, to bound the false alarms."""
        day = now_ms // DAY_MS
        checked_day, alarm = self._looked.get(model_version, (-1, None))
        if day > checked_day:
            alarm = performance_alarm(self._advanced(model_version, now_ms), self._policy)
            self._looked[model_version] = day, alarm
        return alarm

    def _join(self, remembered: _Remembered, label: Label) -> None:
        if remembered.counted:
            if label.reported_at_ms > remembered.reported_at_ms:
                remembered.reported_at_ms = label.reported_at_ms
                self._revised += remembered.fraud is not label.fraud
            return
        if remembered.fraud is None or label.reported_at_ms > remembered.reported_at_ms:
            remembered.fraud, remembered.reported_at_ms = label.fraud, label.reported_at_ms
        if remembered.matured:
            self._count(remembered)

    def _advanced(self, model_version: int, now_ms: int) -> RollingPerformance:
        until = now_ms - self._policy.maturity_ms
        while self._maturing and self._maturing[0][0] <= until:
            remembered = heapq.heappop(self._maturing)[2]
            if remembered.forgotten:
                continue
            remembered.matured = True
            self._of(remembered.version).matured += 1
            if remembered.fraud is not None:
                self._count(remembered)
        return self._of(model_version)

    def _count(self, remembered: _Remembered) -> None:
        remembered.counted = True
        assert remembered.fraud is not None
        self._of(remembered.version).update(
            score=remembered.score,
            fraud=remembered.fraud,
            flagged=remembered.flagged,
            weight=remembered.weight,
            delay_ms=remembered.reported_at_ms - remembered.event_time_ms,
            day=remembered.event_time_ms // DAY_MS,
        )

    def _of(self, version: int) -> RollingPerformance:
        if version not in self._versions:
            self._versions[version] = RollingPerformance(self._policy.window)
            if len(self._versions) > MAX_VERSIONS:
                self._looked.pop(self._versions.popitem(last=False)[0], None)
        self._versions.move_to_end(version)
        return self._versions[version]
