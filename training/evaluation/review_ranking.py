"""Ranking of a day's cards and transactions as a review team sees them: the most suspicious first.

Days are UTC days of the event time. Rows of equal score, and cards of equal maximum score, are ranked in a random
order with a fixed seed: that favours neither class, and two models see ties in the same order.
Source: Le Borgne, Siblini, Lebichot & Bontempi (2022), Reproducible Machine Learning for Credit Card Fraud Detection:
Practical Handbook, ch. 4, "Precision top-k metrics".
"""

from typing import NamedTuple

import msgspec
import numpy as np

from schemas.configuration.settings import Settings
from schemas.dataset.declaration import Dataset
from schemas.time_units import DAY_MS
from scoring.arrays import Flags, Floats, Indices, Ints, Objects
from training.data.history import History

REVIEWS_PER_DAY = 100
NEVER = np.iinfo(np.int64).max  # day from which a card without fraud is known as compromised


class ReviewPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What the team reviews, and when it knows about fraud."""

    per_day: int = REVIEWS_PER_DAY  # cards, or transactions
    label_delay_days: int = 0  # until a label is known
    amount: str | None = None  # column of the amount

    @classmethod
    def from_settings(cls, settings: Settings, dataset: Dataset) -> "ReviewPlan":
        """The plan that the settings configure."""
        return cls(
            per_day=settings.reviews_per_day,
            label_delay_days=settings.label_delay_days,
            amount=dataset.amount,
        )


class ReviewRows(NamedTuple):
    """What the metrics need of n rows in addition to their scores; built by `review_rows`."""

    day: Ints  # (n,), UTC day number of the event time
    fraud: Floats  # (n,), 0, 1 or nan (not known)
    cards: Indices | None  # (n,), code of the card; None: the data set has no key
    known_from: Ints | None  # (n,), first day on which the row's card is known as compromised from its labels
    amounts: Floats | None  # (n,), nan where unknown; None: the data set has no amount
    whole: Flags  # (n,), whether the n rows hold all labelled rows of the row's day

    def at(self, kept: Flags) -> "ReviewRows":
        """The rows restricted to those where `kept`, shape (n,), is true."""
        return ReviewRows(*(None if values is None else values[kept] for values in self))  # type: ignore[arg-type]


class DayTotals(NamedTuple):
    """Numerators and denominator of one metric, by day; each of shape (d,)."""

    found: Floats  # by the score
    attainable: Floats  # by a score that ranks every fraud first
    random: Floats  # expected of a random order
    of: Floats  # the denominator


class RankedDays(NamedTuple):
    """Labelled transactions ranked within their day. d days, f frauds."""

    days: Ints  # (d,), ascending day numbers
    rows: Ints  # (d,), transactions
    fraud_day: Indices  # (f,), position in `days`
    fraud_rank: Ints  # (f,), rank within the day, 0 for the highest score
    fraud_amount: Floats | None  # (f,), 0 where unknown or negative


def review_rows(history: History, rows: Indices, plan: ReviewPlan) -> ReviewRows:
    """The rows of a history to evaluate.

    rows: shape (n,). A card is known as compromised from the first day that begins `plan.label_delay_days` or more
    after the end of a day on which it had fraud; labels of the whole history count.
    """
    day = history.event_time_ms // DAY_MS
    labelled = ~np.isnan(history.fraud)
    days, position = np.unique(day, return_inverse=True)
    missing = np.bincount(position[labelled], minlength=len(days))
    missing -= np.bincount(position[rows][labelled[rows]], minlength=len(days))
    cards = known_from = None
    if len(history.keys):
        codes = card_codes(history.keys)
        first = np.full(int(codes.max(initial=-1)) + 1, NEVER)
        frauds = np.flatnonzero(history.fraud == 1)
        np.minimum.at(first, codes[frauds], day[frauds] + 1 + plan.label_delay_days)
        cards, known_from = codes[rows], first[codes[rows]]
    return ReviewRows(
        day=day[rows],
        fraud=history.fraud[rows],
        cards=cards,
        known_from=known_from,
        amounts=history.columns[plan.amount][rows] if plan.amount else None,
        whole=missing[position[rows]] == 0,
    )


def card_codes(keys: Objects) -> Indices:
    """Number the distinct keys in order of appearance, shape (n,).

    >>> card_codes(np.array(["b", "a", "b"], dtype=object))
    array([0, 1, 0])
    """
    codes: dict[str, int] = {}
    return np.fromiter((codes.setdefault(key, len(codes)) for key in keys.tolist()), dtype=np.intp, count=len(keys))


def rank_days(rows: ReviewRows, scores: Floats, seed: int = 0) -> RankedDays:
    """Rank the transactions of every day by score. rows: with known labels."""
    order = np.lexsort((np.random.default_rng(seed).permutation(len(scores)), -scores, rows.day))
    days, position, counts = np.unique(rows.day[order], return_inverse=True, return_counts=True)
    rank = np.arange(len(order)) - (np.cumsum(counts) - counts)[position]
    frauds = np.flatnonzero(rows.fraud[order] == 1)
    amounts = None
    if rows.amounts is not None:
        amounts = np.maximum(np.nan_to_num(rows.amounts[order[frauds]]), 0.0)
    return RankedDays(days, counts, position[frauds], rank[frauds], amounts)


def transaction_totals(ranked: RankedDays, k: int) -> DayTotals:
    """Frauds among the k highest-ranked transactions of each day, of k. On a day with fewer than k it is still k."""
    d = len(ranked.days)
    frauds = np.bincount(ranked.fraud_day, minlength=d).astype(np.float64)
    return DayTotals(
        found=np.bincount(ranked.fraud_day[ranked.fraud_rank < k], minlength=d).astype(np.float64),
        attainable=np.minimum(frauds, k),
        random=frauds * np.minimum(1.0, k / ranked.rows),
        of=np.full(d, float(k)),
    )


def value_totals(ranked: RankedDays, k: int) -> DayTotals | None:
    """Fraud amount among the k highest-ranked transactions of each day, of the day's; None without amounts."""
    if ranked.fraud_amount is None:
        return None
    d, amounts = len(ranked.days), ranked.fraud_amount
    of = _sums(ranked.fraud_day, amounts, d)
    order = np.lexsort((-amounts, ranked.fraud_day))  # a perfect score ranks the largest frauds of a day first
    day = ranked.fraud_day[order]
    largest = np.arange(len(day)) - np.searchsorted(day, day) < k
    top = ranked.fraud_rank < k
    return DayTotals(
        found=_sums(ranked.fraud_day[top], amounts[top], d),
        attainable=_sums(day[largest], amounts[order][largest], d),
        random=of * np.minimum(1.0, k / ranked.rows),
        of=of,
    )


def card_totals(rows: ReviewRows, scores: Floats, k: int, seed: int = 0) -> DayTotals | None:
    """Compromised cards among the k cards with the highest scores of each day, of k; None without cards.

    A card has the maximum score of its transactions of the day, and is compromised when one of them is fraud. Left out
    are cards known as compromised before the day: from a label, or because an earlier day's review found them. On a
    day with fewer than k cards, or compromised cards, precision is still of k.
    rows: with known labels.
    """
    if rows.cards is None or rows.known_from is None:
        return None
    days, position = np.unique(rows.day, return_inverse=True)
    n_cards = int(rows.cards.max()) + 1
    pairs, pair = np.unique(position * n_cards + rows.cards, return_inverse=True)  # of day and card
    day, card = np.divmod(pairs, n_cards)
    best, fraud = np.full(len(pairs), -np.inf), np.zeros(len(pairs), dtype=bool)
    np.maximum.at(best, pair, scores)
    fraud[pair[rows.fraud == 1]] = True
    known_from = np.full(n_cards, NEVER)
    known_from[rows.cards] = rows.known_from
    order = np.lexsort((np.random.default_rng(seed).permutation(n_cards)[card], -best, day))
    day, card, fraud = day[order], card[order], fraud[order]
    edges = np.searchsorted(day, np.arange(len(days) + 1))
    found_before = np.zeros(n_cards, dtype=bool)
    found, compromised, cards = np.zeros((3, len(days)))
    for i, number in enumerate(days.tolist()):
        today = slice(edges[i], edges[i + 1])
        left = ~found_before[card[today]] & (known_from[card[today]] > number)
        cards_left, fraud_left = card[today][left], fraud[today][left]
        detected = cards_left[:k][fraud_left[:k]]
        found[i], compromised[i], cards[i] = len(detected), fraud_left.sum(), len(cards_left)
        found_before[detected] = True
    return DayTotals(
        found=found,
        attainable=np.minimum(compromised, k),
        random=compromised * np.minimum(1.0, k / np.maximum(cards, 1)),
        of=np.full(len(days), float(k)),
    )


def _sums(day: Indices, amounts: Floats, days: int) -> Floats:
    return np.bincount(day, amounts, days).astype(np.float64)
