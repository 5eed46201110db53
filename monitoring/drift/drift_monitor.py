"""Drift monitor of one model version: panes in; reports, alerts and retrain requests out.

    snapshots ▶ merged panes ▶ closed minutes ▶ e-CUSUM ──┐
                     └──▶ sliding windows ▶ statistics ───┴▶ evidence ▶ incidents ▶ alerts
                                                                  └▶ retraining policy ▶ request

A fold without a clock: minutes close by event time, so equal panes give equal reports, for any number of workers and
after any number of replays.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace

import msgspec
import numpy as np

from monitoring.alerting.incidents import AlertPolicy, Change, IncidentState, correlated_groups, update_incidents
from monitoring.alerting.retrain_policy import RetrainPolicy, RetrainState, evaluate_policy
from monitoring.counting.merged_watermark import MergedWatermark
from monitoring.counting.pane_codec import cursor_of, panes_of
from monitoring.counting.panes import NO_TIME_MS
from monitoring.counting.reference_profile import ALERT, SCORE
from monitoring.counting.windows import WINDOWS, ClosedMinute, MergedPanes, OffsetRange
from monitoring.drift.concentration import NO_BURST
from monitoring.drift.context import AlertContext
from monitoring.drift.detector import DetectorPolicy, ECusum, WindowStatistics, window_statistics
from monitoring.drift.drift_report import statistics_records
from monitoring.drift.evidence import FeatureEvidence, collect_evidence
from monitoring.drift.few_cards import bounds_without_few_cards, explained_features, few_cards_finding
from monitoring.drift.reference import DriftReference
from schemas.records import DriftAlert, DriftReport, DriftWindow, PaneSnapshot, RetrainRequest
from schemas.time_units import DAY_MS, HOUR_MS, MINUTE_MS
from scoring.arrays import Flags, Floats

WINDOW_MINUTES = np.array([w.length_ms // MINUTE_MS for w in WINDOWS])
HOUR_WINDOW = next(i for i, w in enumerate(WINDOWS) if w.name == "1 h")
RETENTION_MS = DAY_MS  # time after a burst during which its rows in the windows are still explained by it


@dataclass(frozen=True, kw_only=True)
class DriftMonitorPolicy:
    """Interval of evaluations, and the policies of detection, alerting and retraining."""

    max_ahead_ms: int = 2 * HOUR_MS  # maximum lead of a pane or cursor over its publication
    max_incomplete: float = 0.05  # maximum share of incomplete minutes of a window that is evaluated
    evaluation_interval_ms: int = 5 * MINUTE_MS  # interval of evaluations; an alarm of the e-CUSUM evaluates at once
    detector: DetectorPolicy = field(default_factory=DetectorPolicy)
    alerts: AlertPolicy = field(default_factory=AlertPolicy)
    retraining: RetrainPolicy = field(default_factory=RetrainPolicy)


@dataclass(frozen=True, kw_only=True)
class DriftEvaluation:
    """Result of one evaluation."""

    report: DriftReport
    alerts: tuple[DriftAlert, ...]
    request: RetrainRequest | None


class DriftMonitor:
    """A fold over snapshots of all partitions."""

    def __init__(
        self,
        reference: DriftReference,
        *,
        model: str,
        model_version: int,
        partitions: int,
        lateness_ms: int,
        idle_timeout_ms: int,
        policy: DriftMonitorPolicy | None = None,
    ) -> None:
        self._reference = reference
        self._model, self._version = model, model_version
        self._policy = policy or DriftMonitorPolicy()
        self._merged = MergedPanes(reference.bins, range(partitions), lateness_ms, idle_timeout_ms)
        self._cusum = ECusum(reference.baseline, self._policy.detector)
        self._groups = correlated_groups(
            reference.bins.names, reference.correlation, self._policy.alerts.min_correlation
        )
        self._alarmed = np.zeros(len(reference.bins.names), dtype=bool)  # e-CUSUM alarms since the last evaluation
        self._next_ms = 0
        self._until_ms = 0
        self._burst_ms = NO_TIME_MS - RETENTION_MS  # event time of the last burst
        self._incidents = IncidentState()
        self._ids: dict[int, str] = {}
        self._retraining = RetrainState()

    @property
    def late(self) -> int:
        """Rows that arrived after their minute had closed, in total."""
        return self._merged.late

    @property
    def lost(self) -> int:
        """Rows whose counts arrived too late to be merged, in total."""
        return self._merged.lost

    @property
    def incomplete(self) -> int:
        """Minutes that closed without a contributing partition, in total."""
        return self._merged.incomplete

    @property
    def watermark(self) -> MergedWatermark:
        """Merged watermark of the partitions."""
        return self._merged.watermark

    def update(
        self, snapshot: PaneSnapshot, context: AlertContext, published_ms: int | None = None
    ) -> Iterator[DriftEvaluation]:
        """Apply a worker's snapshot; yields the evaluations that are due.

        published_ms: timestamp of the record. Event times more than `max_ahead_ms` after it are refused; None accepts
        all. Raises ValueError if the snapshot is damaged.
        """
        horizon = None if published_ms is None else published_ms + self._policy.max_ahead_ms
        for pane in panes_of(snapshot, self._reference.bins):
            self._merged.merge(pane, horizon)
        if snapshot.open:  # the cursor is published after the panes it covers
            self._merged.advance_watermark(cursor_of(snapshot), horizon)
        yield from self._close(context)

    def update_idle(
        self, context: AlertContext, *, wall_ms: int, caught_up: Collection[int], idle_after_ms: int
    ) -> Iterator[DriftEvaluation]:
        """Update which partitions are idle (`MergedWatermark.update_idle`); yields the evaluations that are due."""
        self._merged.watermark.update_idle(wall_ms, caught_up, idle_after_ms)
        yield from self._close(context)

    def _close(self, context: AlertContext) -> Iterator[DriftEvaluation]:
        while (minute := self._merged.close_next()) is not None:
            if self._step(minute):
                yield self._evaluate(context)

    def counted_offsets(self, since_ms: int, until_ms: int) -> dict[int, OffsetRange]:
        """Offsets of the transactions that the closed minutes of a period count, by partition."""
        return self._merged.counted_offsets(since_ms, until_ms)

    def close(self) -> tuple[DriftAlert, ...]:
        """End monitoring of this version; returns alerts that close its open incidents."""
        changes = [Change(change="closed", incident=i, evidence=()) for i in self._incidents.open_incidents]
        self._incidents = IncidentState(last_id=self._incidents.last_id)
        return tuple(self._alert(c, ()) for c in changes)

    def _step(self, minute: ClosedMinute) -> bool:
        self._until_ms = minute.start_ms + MINUTE_MS
        if not minute.complete:  # some partitions are not a sample of all
            return self._until_ms >= self._next_ms
        alarms = self._cusum.update(self._reference.bins.counts_by_bin(minute.counts), minute.hour_of_week)
        self._alarmed |= alarms
        return self._until_ms >= self._next_ms or bool(alarms.any())

    def _evaluate(self, context: AlertContext) -> DriftEvaluation:
        reference, policy, until_ms = self._reference, self._policy, self._until_ms
        counts, by_hour = self._merged.windows()
        statistics = window_statistics(reference.bins, counts, by_hour, reference.baseline, policy.detector)
        expected = reference.baseline.expected_counts(by_hour)
        tolerances = policy.detector.tolerances(reference.baseline)
        incomplete = self._merged.incomplete_minutes()
        usable = incomplete <= policy.max_incomplete * WINDOW_MINUTES
        statistics = _without_incomplete(statistics, usable)
        bursts = context.bursts(until_ms)
        if any(b.active for b in bursts.values()):
            self._burst_ms = until_ms
        elif until_ms - self._burst_ms > RETENTION_MS:
            bursts = dict.fromkeys(bursts, NO_BURST)
        without = bounds_without_few_cards(reference, policy.detector, statistics, counts, expected, bursts)

        def evidence_of(window: str | None) -> list[FeatureEvidence]:
            return collect_evidence(
                reference.bins,
                statistics,
                counts,
                expected,
                tolerances,
                reference.importance,
                self._alarmed,
                window,
            )

        explained = explained_features(bursts, statistics, self._alarmed, without > tolerances)
        evidence = evidence_of(None)
        moved = {e.feature for e in evidence if e.alarmed}
        moved |= {f for i in self._incidents.open_incidents for f in i.features}
        attack = (
            not moved.isdisjoint((ALERT, SCORE))
            and any(e.feature == ALERT and _rose(e) for e in evidence)
            and context.is_concentrated(until_ms)
        )
        if attack and not any(b.share for b in bursts.values()):  # the attack explains all alarms
            explained[:] = True
        of_few_cards = {n for n, e in zip(reference.bins.names, explained.tolist(), strict=True) if e}
        of_few_cards |= {ALERT, SCORE} if attack else set()
        evidence = [msgspec.structs.replace(e, few_cards=e.alarmed and e.feature in of_few_cards) for e in evidence]
        few_cards = few_cards_finding(bursts, attack, context.flagged_cards(until_ms))
        changes: tuple[Change, ...] = ()
        if usable[HOUR_WINDOW]:  # otherwise there is no evidence, also none to close an incident
            self._incidents, changes = update_incidents(
                self._incidents, evidence, until_ms, self._groups, policy.alerts, few_cards
            )
        alerts = tuple(
            self._alert(
                c,
                context.examples_of_cards(until_ms, c.incident.cards) if c.incident.by_few_cards else (),
                all_evidence=evidence,
            )
            for c in changes
        )
        self._retraining, request = evaluate_policy(
            self._retraining,
            self._less_few_cards(evidence_of(policy.retraining.window), without),
            self._incidents.open_incidents,
            until_ms,
            model=self._model,
            model_version=self._version,
            performance_alarm=context.performance_alarm(self._version, until_ms),
            suspected_attack=attack,
            policy=policy.retraining,
            score=SCORE,
        )
        incidents = tuple(self._ids[i.incident_id] for i in self._incidents.open_incidents)
        self._alarmed[:] = False
        self._next_ms = until_ms + policy.evaluation_interval_ms
        report = DriftReport(
            model=self._model,
            model_version=self._version,
            until_ms=until_ms,
            late=self._merged.late,
            lost=self._merged.lost,
            windows=_windows(reference.bins.names, statistics, by_hour.sum(axis=1).tolist(), incomplete.tolist()),
            incidents=incidents,
            performance=context.performance(self._version, until_ms),
            suspected_attack=attack,
            incomplete=self._merged.incomplete,
            skew_ms=self.watermark.skew_ms,
            skewed=tuple(sorted(self.watermark.skewed_partitions)),
            burst_share=bursts["1 h"].share,
        )
        return DriftEvaluation(
            report=report,
            alerts=alerts,
            request=request and msgspec.structs.replace(request, incidents=incidents),
        )

    def _less_few_cards(self, evidence: Sequence[FeatureEvidence], without: Floats) -> list[FeatureEvidence]:
        """Evidence of the retraining window, with lower bounds without the rows of few cards."""
        window = [w.name for w in WINDOWS].index(self._policy.retraining.window)
        place = {name: i for i, name in enumerate(self._reference.bins.names)}
        return [
            msgspec.structs.replace(e, psi_lower_bound=min(e.psi_lower_bound, without[window, place[e.feature]]))
            for e in evidence
        ]

    def _alert(
        self, change: Change, examples: tuple[str, ...], *, all_evidence: Sequence[FeatureEvidence] = ()
    ) -> DriftAlert:
        incident = change.incident
        # Built from version, feature and opening time, so that a replay of the panes gives the same id.
        name = f"{self._model}-{self._version}-{incident.features[0]}-{incident.opened_at_ms}"
        whole = sum(max(0.0, e.psi) for e in all_evidence) or 1.0
        return DriftAlert(
            incident_id=self._ids.setdefault(incident.incident_id, name),
            change=change.change,
            kind=incident.kind,
            severity=incident.severity,
            model=self._model,
            model_version=self._version,
            features=incident.features,
            summary=incident.summary,
            opened_at_ms=incident.opened_at_ms,
            happened_at_ms=self._until_ms,
            evidence=tuple(e.of_alert(max(0.0, e.psi) / whole) for e in change.evidence),
            examples=examples,
            cards=_readable(incident.cards),
        )


def _readable(cards: Sequence[bytes]) -> tuple[str, ...]:
    """The texts of keys; a key that is not UTF-8, such as the digest of a long one, cannot be put on a list."""
    texts = (card.decode(errors="replace") for card in cards)
    return tuple(text for text in texts if "\ufffd" not in text)


def _rose(evidence: FeatureEvidence) -> bool:
    """Whether the alert rate is above the reference's; the bins are no, yes, missing."""
    return evidence.current[1] > evidence.reference[1]


def _without_incomplete(s: WindowStatistics, usable: Flags) -> WindowStatistics:
    """Statistics without alarms of windows that are too incomplete. usable: mask of the others, shape (n_windows,)."""
    if usable.all():
        return s
    of = usable[:, None]
    return replace(
        s,
        exceeds=s.exceeds & of,
        enough_rows=s.enough_rows & of,
        psi_lower_bound=np.where(of, s.psi_lower_bound, np.minimum(s.psi_lower_bound, 0.0)),
    )


def _windows(
    names: Sequence[str], s: WindowStatistics, rows: Sequence[int], incomplete: Sequence[int]
) -> tuple[DriftWindow, ...]:
    return tuple(
        DriftWindow(
            window=window.name,
            rows=rows[w],
            incomplete=incomplete[w],
            features=statistics_records(names, s, w),
        )
        for w, window in enumerate(WINDOWS)
    )
