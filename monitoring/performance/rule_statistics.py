"""Statistics of rules: how often each matches, and what its matches were by their labels. Pure.

Sums add up: those of days, partitions or batches give those of the whole. `tamiz rules test` sums columns, the monitor
sums decisions as their labels arrive.

A label is honest if the transaction was not declined: the card holder of a declined one never reports it. Of would-be
declines that went to review at random (`schemas.rules.Exploration`), each represents 1/share of them, which is its
weight.
"""

import math
from statistics import NormalDist
from typing import NamedTuple, Self

import msgspec
import numpy as np

from schemas.rule_report import Estimate
from scoring.arrays import Flags, Floats

CONFIDENCE = 0.95
_Z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)


class LabelSums(NamedTuple):
    """Sums over transactions of one label."""

    rows: int = 0
    weight: float = 0.0
    weight_squares: float = 0.0
    amount: float = 0.0  # weighted
    amount_squares: float = 0.0  # of the weighted amounts

    @classmethod
    def of(cls, weights: Floats, amounts: Floats) -> Self:
        """Sums of rows. weights, amounts: shape (n,); a missing amount is NaN and counts as 0."""
        weighted = weights * np.nan_to_num(amounts, nan=0.0, posinf=0.0, neginf=0.0)
        return cls(
            len(weights),
            float(weights.sum()),
            float((weights**2).sum()),
            float(weighted.sum()),
            float((weighted**2).sum()),
        )

    def plus(self, other: "LabelSums") -> "LabelSums":
        """Sums of both."""
        return LabelSums._make(a + b for a, b in zip(self, other, strict=True))

    def minus(self, part: "LabelSums") -> "LabelSums":
        """Sums of the others. part: sums of some of these transactions."""
        return LabelSums._make(a - b for a, b in zip(self, part, strict=True))


class RuleSums(NamedTuple):
    """Sums of one version of one rule."""

    matches: int = 0
    unknown: int = 0  # transactions that lack a value, so that the rule neither matches nor fails
    by_model: int = 0  # matches that the model alone would have reviewed, challenged or declined
    alone: int = 0  # matches that neither the model nor another live rule flags
    declined: int = 0  # matches that were declined: their label is not honest
    frauds: LabelSums = LabelSums()  # matches with an honest label
    legitimate: LabelSums = LabelSums()
    frauds_alone: LabelSums = LabelSums()  # those of `alone`
    legitimate_alone: LabelSums = LabelSums()

    def plus(self, other: "RuleSums") -> "RuleSums":
        """Sums of both."""
        counts = (a + b for a, b in zip(self[:5], other[:5], strict=True))
        sums = (a.plus(b) for a, b in zip(self[5:], other[5:], strict=True))
        return RuleSums._make((*counts, *sums))


class RuleStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What one version of a rule matches. null: no label, or no amount, to estimate it from."""

    rule: str
    version: int
    effect: str
    mode: str
    matches: int
    matches_a_day: float
    unknown: int  # transactions that lack a value that the rule needs
    unlabelled_share: float | None  # share of the matches without an honest label
    frauds: int  # matches with an honest label
    legitimate: int
    precision: Estimate | None  # share of frauds among the matches
    recall: Estimate | None  # share of all frauds that the rule matches
    fraud_amount: Estimate | None  # of the matches
    legitimate_amount: Estimate | None
    by_model_share: float | None  # share of the matches that the model alone would have flagged
    alone: int  # matches that neither the model nor another live rule flags
    frauds_alone: int  # among them, by honest labels
    legitimate_alone: int
    fraud_amount_alone: Estimate | None
    overlaps: dict[str, int] = {}  # by other rule, the number of matches that both have


def share(successes: LabelSums, others: LabelSums) -> Estimate | None:
    """Weighted share of successes among both, with Wilson's interval of Kish's effective sample size.

    None without rows. Sources: Wilson (1927), Probable Inference, the Law of Succession, and Statistical Inference;
    Kish (1965), Survey Sampling, ch. 11.

    >>> found = share(LabelSums(rows=8, weight=8, weight_squares=8), LabelSums(rows=2, weight=2, weight_squares=2))
    >>> (round(found.low, 3), found.value, round(found.high, 3)) if found else None
    (0.49, 0.8, 0.943)
    """
    weight = successes.weight + others.weight
    if weight <= 0:
        return None
    p, n = successes.weight / weight, weight**2 / (successes.weight_squares + others.weight_squares)
    centre = (p + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * math.sqrt(p * (1 - p) / n + _Z**2 / (4 * n**2))
    # At a share of 0 or 1 the bound is exact; rounding must not exclude it.
    return Estimate(value=p, low=min(p, max(0.0, centre - half)), high=max(p, min(1.0, centre + half)))


def amount_sum(sums: LabelSums) -> Estimate | None:
    """Sum of amounts with an interval: number and amounts of the transactions are random, as in a Poisson bootstrap.

    The variance of its resamples is the sum of squares, so none are drawn. None without rows.

    >>> found = amount_sum(LabelSums(rows=2, weight=2, weight_squares=2, amount=300.0, amount_squares=10_000.0))
    >>> (round(found.low), found.value, round(found.high)) if found else None
    (104, 300.0, 496)
    """
    if not sums.rows:
        return None
    half = _Z * math.sqrt(sums.amount_squares)
    return Estimate(value=sums.amount, low=max(0.0, sums.amount - half), high=sums.amount + half)


class RuleRows(NamedTuple):
    """n transactions with what is known of them; every array has shape (n,)."""

    flagged: Flags  # whether the model alone would have reviewed, challenged or declined
    declined: Flags  # whether the decision was to decline
    frauds: Floats  # 1: fraud, 0: legitimate, NaN: no label
    amounts: Floats  # NaN: missing
    weights: Floats  # 1; of an explored transaction 1/share

    @property
    def honest(self) -> Flags:
        """Rows with an honest label."""
        honest: Flags = ~np.isnan(self.frauds) & ~self.declined
        return honest

    def label_sums(self, rows: Flags) -> tuple[LabelSums, LabelSums]:
        """Frauds and legitimate transactions among rows with an honest label."""
        honest = rows & self.honest
        frauds, legitimate = (np.flatnonzero(honest & (self.frauds == label)) for label in (1, 0))
        return (
            LabelSums.of(self.weights[frauds], self.amounts[frauds]),
            LabelSums.of(self.weights[legitimate], self.amounts[legitimate]),
        )

    def tally(self, matches: Flags, unknown: Flags, by_others: Flags) -> RuleSums:
        """Sums of one rule. matches, unknown: of the rule; by_others: whether another live rule matches."""
        alone = matches & ~self.flagged & ~by_others
        frauds, legitimate = self.label_sums(matches)
        frauds_alone, legitimate_alone = self.label_sums(alone)
        return RuleSums(
            matches=int(np.count_nonzero(matches)),
            unknown=int(np.count_nonzero(unknown)),
            by_model=int(np.count_nonzero(matches & self.flagged)),
            alone=int(np.count_nonzero(alone)),
            declined=int(np.count_nonzero(matches & self.declined)),
            frauds=frauds,
            legitimate=legitimate,
            frauds_alone=frauds_alone,
            legitimate_alone=legitimate_alone,
        )


def rule_statistics(
    tally: RuleSums,
    *,
    rule: str,
    version: int,
    effect: str,
    mode: str,
    days: float,
    all_frauds: LabelSums,
    overlaps: dict[str, int] | None = None,
) -> RuleStatistics:
    """The statistics of a rule from its sums.

    days: period of the sums. all_frauds: of all transactions, matched or not, with an honest label.
    """
    labelled = tally.frauds.rows + tally.legitimate.rows
    return RuleStatistics(
        rule=rule,
        version=version,
        effect=effect,
        mode=mode,
        matches=tally.matches,
        matches_a_day=tally.matches / days if days > 0 else 0.0,
        unknown=tally.unknown,
        unlabelled_share=1 - labelled / tally.matches if tally.matches else None,
        frauds=tally.frauds.rows,
        legitimate=tally.legitimate.rows,
        precision=share(tally.frauds, tally.legitimate),
        recall=share(tally.frauds, all_frauds.minus(tally.frauds)),
        fraud_amount=amount_sum(tally.frauds),
        legitimate_amount=amount_sum(tally.legitimate),
        by_model_share=tally.by_model / tally.matches if tally.matches else None,
        alone=tally.alone,
        frauds_alone=tally.frauds_alone.rows,
        legitimate_alone=tally.legitimate_alone.rows,
        fraud_amount_alone=amount_sum(tally.frauds_alone),
        overlaps=overlaps or {},
    )
