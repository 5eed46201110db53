"""Counts of one rule or list: its matches, and what their labels showed first, in total and recently."""

import math
from collections import Counter
from typing import NamedTuple

from monitoring.performance.rule_statistics import LabelSums, share
from schemas.records import Effect, RuleMatch
from schemas.rule_report import MAX_OVERLAPS, Estimate, LabelWeights, MatchCounts, RuleProblem

FIRST_LABELS = 50  # labelled matches of a rule version with which its later ones are compared
MIN_RECENT_LABELS = 20  # after the first ones
DECAY = 0.98  # of the weight of a recent label, with each label after it: some 100 labels in effect


class RuleKey(NamedTuple):
    """One version of a rule, or a list, in one mode."""

    kind: str
    name: str
    version: int | None
    mode: str

    @classmethod
    def of(cls, match: RuleMatch) -> "RuleKey":
        """The key of a match."""
        return cls(match.kind, match.name, match.version, match.mode)


class LabelShare:
    """Labelled matches as sums of frauds and of legitimate ones."""

    def __init__(self, weights: LabelWeights | None = None) -> None:
        w = weights or LabelWeights()
        self.rows = w.rows
        self._frauds = LabelSums(weight=w.frauds, weight_squares=w.fraud_squares)
        self._legitimate = LabelSums(weight=w.legitimate, weight_squares=w.legitimate_squares)

    def add(self, fraud: bool, weight: float, decay: float = 1.0) -> None:
        """Add one label, after the weight of those before is reduced by a factor."""
        self.rows += 1
        frauds, legitimate = (_scaled(sums, decay) for sums in (self._frauds, self._legitimate))
        one = LabelSums(weight=weight, weight_squares=weight**2)
        self._frauds, self._legitimate = (frauds.plus(one), legitimate) if fraud else (frauds, legitimate.plus(one))

    @property
    def estimate(self) -> Estimate | None:
        """Share of frauds; None without labels."""
        return share(self._frauds, self._legitimate)

    @property
    def weights(self) -> LabelWeights:
        """As a part of a record."""
        return LabelWeights(
            rows=self.rows,
            frauds=self._frauds.weight,
            fraud_squares=self._frauds.weight_squares,
            legitimate=self._legitimate.weight,
            legitimate_squares=self._legitimate.weight_squares,
        )


class MatchCounter:
    """Counts of one key, with the state of its problem. They continue from a record."""

    def __init__(self, key: RuleKey, effect: Effect, since_ms: int) -> None:
        self.key, self.effect, self.since_ms = key, effect, since_ms
        self.in_force = key.kind == "list"
        self.last_match_ms: int | None = None
        self.matches = self.by_model = self.alone = self.declined = 0
        self.frauds_alone = self.legitimate_alone = 0
        self.labels, self.first, self.recent = LabelShare(), LabelShare(), LabelShare()
        self.overlaps: Counter[str] = Counter()
        self.problem: RuleProblem | None = None
        self.problem_since_ms: int | None = None
        self.incident_id: str | None = None

    @classmethod
    def of(cls, counts: MatchCounts) -> "MatchCounter":
        """The counter that continues a record."""
        counter = cls(RuleKey(counts.kind, counts.name, counts.version, counts.mode), counts.effect, counts.since_ms)
        for name in ("in_force", "last_match_ms", "matches", "by_model", "alone", "declined", "frauds_alone"):
            setattr(counter, name, getattr(counts, name))
        counter.legitimate_alone = counts.legitimate_alone
        counter.labels = LabelShare(counts.labels)
        counter.first, counter.recent = LabelShare(counts.first_labels), LabelShare(counts.recent_labels)
        counter.overlaps = Counter(counts.overlaps)
        counter.problem, counter.problem_since_ms = counts.problem, counts.problem_since_ms
        counter.incident_id = counts.incident_id
        return counter

    def add_match(
        self, match: RuleMatch, others: list[str], time_ms: int, *, flagged: bool, alone: bool, declined: bool
    ) -> None:
        """Count a match. others: names of the other rules and lists that match. flagged: by the model."""
        self.effect = match.effect
        self.matches += 1
        self.by_model += flagged
        self.alone += alone
        self.declined += declined
        self.overlaps.update(others)
        self.last_match_ms = time_ms if self.last_match_ms is None else max(time_ms, self.last_match_ms)

    def add_label(self, fraud: bool, weight: float, *, alone: bool) -> None:
        """Count the final, honest label of a match."""
        self.labels.add(fraud, weight)
        if self.first.rows < FIRST_LABELS:
            self.first.add(fraud, weight)
        else:
            self.recent.add(fraud, weight, DECAY)
        self.frauds_alone += alone and fraud
        self.legitimate_alone += alone and not fraud

    def precision_fell(self) -> bool:
        """Whether the interval of the recent precision is below that of the first one.

        A problem ends only when the intervals overlap by half.
        """
        first, recent = self.first.estimate, self.recent.estimate
        if first is None or recent is None or self.recent.rows < MIN_RECENT_LABELS:
            return False
        return (recent.value if self.problem == "precision-fell" else recent.high) < first.low

    def counts(self) -> MatchCounts:
        """As a part of a record."""
        key = self.key
        return MatchCounts(
            kind=key.kind,  # type: ignore[arg-type]
            name=key.name,
            version=key.version,
            mode=key.mode,  # type: ignore[arg-type]
            effect=self.effect,
            in_force=self.in_force,
            since_ms=self.since_ms,
            last_match_ms=self.last_match_ms,
            matches=self.matches,
            by_model=self.by_model,
            alone=self.alone,
            declined=self.declined,
            frauds_alone=self.frauds_alone,
            legitimate_alone=self.legitimate_alone,
            precision=self.labels.estimate,
            first_precision=self.first.estimate,
            recent_precision=self.recent.estimate,
            overlaps=dict(self.overlaps.most_common(MAX_OVERLAPS)),
            problem=self.problem,
            problem_since_ms=self.problem_since_ms,
            incident_id=self.incident_id,
            labels=self.labels.weights,
            first_labels=self.first.weights,
            recent_labels=self.recent.weights,
        )


def _scaled(sums: LabelSums, factor: float) -> LabelSums:
    if factor == 1.0 or not sums.weight:
        return sums
    # Far below one label, a sum is forgotten: it must not become a number that JSON or a division cannot hold.
    weight = sums.weight * factor
    return (
        LabelSums()
        if weight < 1e-9 or not math.isfinite(weight)
        else sums._replace(weight=weight, weight_squares=sums.weight_squares * factor**2)
    )
