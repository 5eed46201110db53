"""Watching one model version: published panes in; reports, alerts and requests to train again out.

    snapshots ▶ merged panes ▶ closed minutes ▶ e-CUSUM ──┐
                     └──▶ sliding windows ▶ statistics ───┴▶ evidence ▶ incidents ▶ alerts
                                                                  └▶ retraining policy ▶ request

A fold without a clock: minutes close by event time, so that the same panes give the same reports, whoever counted them
and however often they are read.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import msgspec
import numpy as np

from monitoring.alerting import AlertBook, AlertPolicy, Change, Incident, companions, judge
from monitoring.comparison import statistics_records
from monitoring.detector import DetectorPolicy, ECusum, WindowStatistics, window_statistics
from monitoring.evidence import FeatureEvidence, gather
from monitoring.pane_codec import cursor_of, panes_of
from monitoring.panes import MINUTE_MS
from monitoring.profile import ALERT, SCORE
from monitoring.reference import Reference
from monitoring.retraining import RetrainPolicy, RetrainWatch, retrain
from monitoring.surroundings import Surroundings
from monitoring.windows import WINDOWS, ClosedMinute, MergedPanes
from schemas.events import (
    DriftAlert,
    DriftEvidence,
    DriftReport,
    DriftWindow,
    PaneSnapshot,
    RetrainRequest,
)


@dataclass(frozen=True, kw_only=True)
class WatchPolicy:
    """How often is looked and when is spoken."""

    every_ms: int = 5 * MINUTE_MS  # an evaluation at least this far from the last, or where the e-CUSUM alarms
    detector: DetectorPolicy = field(default_factory=DetectorPolicy)
    alerts: AlertPolicy = field(default_factory=AlertPolicy)
    retraining: RetrainPolicy = field(default_factory=RetrainPolicy)


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What one look brought."""

    report: DriftReport
    alerts: tuple[DriftAlert, ...]
    request: RetrainRequest | None


class Watch:
    """The fold."""

    def __init__(
        self,
        reference: Reference,
        *,
        model: str,
        model_version: int,
        partitions: int,
        grace_ms: int,
        idle_ms: int,
        policy: WatchPolicy | None = None,
    ) -> None:
        self._reference = reference
        self._model, self._version = model, model_version
        self._policy = policy or WatchPolicy()
        self._merged = MergedPanes(reference.bins, range(partitions), grace_ms, idle_ms)
        self._cusum = ECusum(reference.calibration, self._policy.detector)
        self._groups = companions(reference.bins.names, reference.correlation, self._policy.alerts.together)
        self._alarmed = np.zeros(len(reference.bins.names), dtype=bool)  # by the e-CUSUM since the last evaluation
        self._next_ms = 0
        self._until_ms = 0
        self._book = AlertBook()
        self._ids: dict[int, str] = {}
        self._retraining = RetrainWatch()

    @property
    def late(self) -> int:
        """Rows that came after their minute had closed, so far."""
        return self._merged.late

    @property
    def lost(self) -> int:
        """Rows whose counts came too late to be merged, so far."""
        return self._merged.lost

    def take(self, snapshot: PaneSnapshot, around: Surroundings) -> Iterator[Evaluation]:
        """Take in what a worker published; the evaluations that are due.

        Raises ValueError when the snapshot is damaged.
        """
        for pane in panes_of(snapshot, self._reference.bins):
            self._merged.merge(pane)
        if snapshot.open:  # the cursor: everything before it was published before it
            self._merged.hear(cursor_of(snapshot))
        while (minute := self._merged.close_next()) is not None:
            if self._step(minute):
                yield self._evaluate(around)

    def end(self) -> tuple[DriftAlert, ...]:
        """Nothing more comes of this version: its open incidents, closed."""
        changes = [Change(change="closed", incident=i, evidence=()) for i in self._book.opened]
        self._book = AlertBook(last_id=self._book.last_id)
        return tuple(self._alert(c, (), attack=False) for c in changes)

    def _step(self, minute: ClosedMinute) -> bool:
        alarms = self._cusum.step(self._reference.bins.binned(minute.counts), minute.hour_of_week)
        self._alarmed |= alarms
        self._until_ms = minute.start_ms + MINUTE_MS
        return self._until_ms >= self._next_ms or bool(alarms.any())

    def _evaluate(self, around: Surroundings) -> Evaluation:
        reference, policy, until_ms = self._reference, self._policy, self._until_ms
        counts, by_hour = self._merged.windows()
        statistics = window_statistics(reference.bins, counts, by_hour, reference.calibration, policy.detector)
        expected = reference.calibration.expected(by_hour)
        tolerances = policy.detector.tolerances(reference.calibration)

        def seen(window: str | None) -> list[FeatureEvidence]:
            return gather(
                reference.bins,
                statistics,
                counts,
                expected,
                tolerances,
                reference.importance,
                self._alarmed,
                window,
            )

        evidence = seen(None)
        moved = {f for i in self._book.opened for f in i.features} | {e.feature for e in evidence if e.alarmed}
        attack = (
            not moved.isdisjoint((ALERT, SCORE))
            and any(e.feature == ALERT and _rose(e) for e in evidence)
            and around.concentrated(until_ms)
        )
        # Under an attack whatever moves has one cause.
        groups = dict.fromkeys(reference.bins.names, ALERT) if attack else self._groups
        self._book, changes = judge(self._book, evidence, until_ms, groups, policy.alerts)
        alerts = tuple(
            self._alert(c, around.examples(c.incident.features, until_ms), attack=attack, all_evidence=evidence)
            for c in changes
        )
        self._retraining, request = retrain(
            self._retraining,
            seen(policy.retraining.window),
            self._book.opened,
            until_ms,
            model=self._model,
            model_version=self._version,
            performance_alarm=around.performance_alarm(self._version, until_ms),
            suspected_attack=attack,
            policy=policy.retraining,
            score=SCORE,
        )
        incidents = tuple(self._ids[i.incident_id] for i in self._book.opened)
        self._alarmed[:] = False
        self._next_ms = until_ms + policy.every_ms
        report = DriftReport(
            model=self._model,
            model_version=self._version,
            until_ms=until_ms,
            late=self._merged.late,
            lost=self._merged.lost,
            windows=_windows(reference.bins.names, statistics, by_hour.sum(axis=1)),
            incidents=incidents,
            adwin=around.adwin(),
            performance=around.performance(self._version, until_ms),
            suspected_attack=attack,
        )
        return Evaluation(
            report=report,
            alerts=alerts,
            request=request and msgspec.structs.replace(request, incidents=incidents),
        )

    def _alert(
        self,
        change: Change,
        examples: tuple[str, ...],
        *,
        attack: bool,
        all_evidence: Sequence[FeatureEvidence] = (),
    ) -> DriftAlert:
        incident = change.incident
        # Named after what opened it, so that the same panes read again give the same name.
        name = f"{self._model}-{self._version}-{incident.features[0]}-{incident.opened_at_ms}"
        whole = sum(max(0.0, e.psi) for e in all_evidence) or 1.0
        return DriftAlert(
            incident_id=self._ids.setdefault(incident.incident_id, name),
            change=change.change,
            kind=_kind(incident, attack),
            severity="critical" if attack else incident.severity,
            model=self._model,
            model_version=self._version,
            features=incident.features,
            sentence=incident.sentence,
            opened_at_ms=incident.opened_at_ms,
            happened_at_ms=self._until_ms,
            evidence=tuple(_evidence(e, max(0.0, e.psi) / whole) for e in change.evidence),
            examples=examples,
        )


def _rose(evidence: FeatureEvidence) -> bool:
    """Whether more is flagged than the reference's share; the bins are no, yes, missing."""
    return evidence.current[1] > evidence.reference[1]


def _kind(incident: Incident, attack: bool) -> Literal["shift", "data", "attack"]:
    return "attack" if attack and {ALERT, SCORE} & set(incident.features) else incident.kind


def _evidence(e: FeatureEvidence, share: float) -> DriftEvidence:
    return DriftEvidence(
        feature=e.feature,
        window=e.window,
        psi=e.psi,
        psi_lower_bound=e.lower_bound,
        tolerance=e.tolerance,
        importance=e.importance,
        share=share,
        labels=e.labels,
        reference=e.reference,
        current=e.current,
    )


def _windows(names: Sequence[str], s: WindowStatistics, rows: Sequence[int]) -> tuple[DriftWindow, ...]:
    return tuple(
        DriftWindow(
            window=window.name,
            rows=int(rows[w]),
            features=statistics_records(names, s, w),
        )
        for w, window in enumerate(WINDOWS)
    )
