"""Metrics of daily reviews, against a plain loop over days as the Fraud Detection Handbook describes it."""

from dataclasses import dataclass

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.random import default_rng

from schemas.time_units import DAY_MS, HOUR_MS
from training.data.history import History
from training.data.time_range import TimeRange
from training.evaluation.bootstrap import bounds, resample_weights, small_sample_confidence
from training.evaluation.review_metrics import ReviewEvaluation, evaluate_reviews, review_differences
from training.evaluation.review_ranking import ReviewPlan, review_rows


@dataclass
class Payment:
    day: int
    card: str
    score: float
    fraud: float = 0.0  # nan: not known
    amount: float = 1.0
    hour: int = 12


def history_of(payments: list[Payment], *, with_keys: bool = True) -> History:
    times = np.array([p.day * DAY_MS + p.hour * HOUR_MS for p in payments])
    return History(
        source="payments.csv",
        sha256="0" * 64,
        rows=len(payments),
        rejected={},
        unlabelled=0,
        columns={"amount": np.array([p.amount for p in payments])},
        event_time_ms=times,
        fraud=np.array([p.fraud for p in payments]),
        keys=np.array([p.card for p in payments] if with_keys else [], dtype=object),
        time_range=TimeRange(first_ms=int(times.min()), last_ms=int(times.max())),
    )


def reviewed(payments, k, *, first_day=0, delay=0, with_keys=True, amount="amount", **more) -> ReviewEvaluation:
    """Evaluate the payments from `first_day` on; earlier ones are history."""
    rows = np.array([i for i, p in enumerate(payments) if p.day >= first_day])
    plan = ReviewPlan(per_day=k, label_delay_days=delay, amount=amount)
    found = review_rows(history_of(payments, with_keys=with_keys), rows, plan)
    return evaluate_reviews(found, np.array([payments[i].score for i in rows]), k, **more)


def by_the_book(payments: list[Payment], k: int, first_day: int, delay: int):
    """Card precision@k, transaction precision@k and value detected, by day, in plain loops. Scores must differ."""
    detected: set[str] = set()
    cards, transactions, value = [], [], []
    for day in sorted({p.day for p in payments if p.day >= first_day}):
        today = [p for p in payments if p.day == day]
        known = {p.card for p in payments if p.fraud and p.day <= day - 1 - delay}
        scores, frauds = {}, {}
        for p in today:
            if p.card not in known | detected:
                scores[p.card] = max(scores.get(p.card, 0), p.score)
                frauds[p.card] = max(frauds.get(p.card, 0), p.fraud)
        top_cards = sorted(scores, key=scores.__getitem__, reverse=True)[:k]
        found = [card for card in top_cards if frauds[card]]
        cards.append((len(found), min(k, sum(map(bool, frauds.values())))))
        detected.update(found)
        top = sorted(today, key=lambda p: p.score, reverse=True)[:k]
        transactions.append((sum(int(p.fraud) for p in top), min(k, sum(int(p.fraud) for p in today))))
        largest = sorted((p.amount for p in today if p.fraud), reverse=True)
        value.append((sum(p.amount for p in top if p.fraud), sum(largest[:k]), sum(largest)))
    return cards, transactions, value


def random_payments(seed: int, n: int, days: int, cards: int, fraud: float = 0.2) -> list[Payment]:
    rng = default_rng(seed)
    scores = rng.permutation(n) / n
    return [
        Payment(int(rng.integers(days)), f"card {rng.integers(cards)}", float(score), float(rng.random() < fraud),
                float(rng.integers(1, 100)), int(rng.integers(24)))
        for score in scores
    ]  # fmt: skip


def check_by_the_book(payments: list[Payment], k: int, first_day: int, delay: int) -> None:
    ours = reviewed(payments, k, first_day=first_day, delay=delay, resamples=20)
    cards, transactions, value = by_the_book(payments, k, first_day, delay)
    assert [(d.cards_found, d.cards_attainable) for d in ours.days] == cards
    assert [(d.frauds_found, d.frauds_attainable) for d in ours.days] == transactions
    assert [(d.amount_found, d.amount_attainable, d.fraud_amount) for d in ours.days] == value
    for name, days in (("card_precision", cards), ("transaction_precision", transactions)):
        assert ours.metric(name).value == pytest.approx(np.mean([found / k for found, _ in days]))
        assert ours.metric(name).attainable == pytest.approx(np.mean([best / k for _, best in days]))
    found, best, of = np.sum(value, axis=0)
    if of:
        assert ours.metric("value_detected").value == pytest.approx(found / of)
        assert ours.metric("value_detected").attainable == pytest.approx(best / of)
    else:
        assert ours.metric("value_detected").reason == "no fraud with a known amount"


@pytest.mark.parametrize("delay", [0, 2, 7])
@pytest.mark.parametrize("k", [1, 5, 40, 1000])
def test_all_three_metrics_agree_with_a_plain_loop_over_the_days(k, delay):
    check_by_the_book(random_payments(k, 2000, 20, 150), k, first_day=8, delay=delay)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(1, 40),
    days=st.integers(1, 6),
    cards=st.integers(1, 8),
    k=st.integers(1, 6),
    first_day=st.integers(0, 3),
    delay=st.integers(0, 3),
    fraud=st.sampled_from([0, 0.3, 1]),
)
def test_any_small_history_agrees_with_the_plain_loop(seed, n, days, cards, k, first_day, delay, fraud):
    payments = random_payments(seed, n, days, cards, fraud)
    if any(p.day >= first_day for p in payments):
        check_by_the_book(payments, k, first_day, delay)


#  k = 2        day 0          day 1               day 2               day 3
#  card a       fraud (known from day 2: delay 1)  fraud, left out
#  card b                      fraud .9: found     fraud, left out
#  card c                      legitimate .8       fraud .3, .7: found
#  card d                      fraud .1: missed    fraud .6: found     fraud, left out
#  card e                                          legitimate .5       legitimate .9
KNOWN = [
    Payment(0, "a", 0.5, fraud=1),
    Payment(1, "b", 0.9, fraud=1, amount=100), Payment(1, "c", 0.8), Payment(1, "d", 0.1, fraud=1, amount=40),
    Payment(2, "a", 1.0, fraud=1, amount=5), Payment(2, "b", 0.95, fraud=1, amount=5),
    Payment(2, "c", 0.3, fraud=1, amount=20), Payment(2, "c", 0.7), Payment(2, "d", 0.6, fraud=1, amount=10),
    Payment(2, "e", 0.5),
    Payment(3, "d", 0.8, fraud=1, amount=20), Payment(3, "e", 0.9),
]  # fmt: skip


def test_a_card_counts_until_its_fraud_is_found_or_its_label_is_known():
    result = reviewed(KNOWN, 2, first_day=1, delay=1)
    assert [(d.cards_found, d.cards_attainable) for d in result.days] == [(1, 2), (2, 2), (0, 0)]
    card = result.metric("card_precision")
    assert (card.value, card.attainable) == (pytest.approx((1 / 2 + 1 + 0) / 3), pytest.approx(2 / 3))


def test_transactions_and_amounts_count_although_their_card_is_known():
    result = reviewed(KNOWN, 2, first_day=1, delay=1)
    assert [d.frauds_found for d in result.days] == [1, 2, 1]
    assert [d.amount_found for d in result.days] == [100, 10, 20]
    value = result.metric("value_detected")
    assert value.value == pytest.approx((100 + 10 + 20) / (140 + 40 + 20))
    assert value.attainable == pytest.approx((140 + 30 + 20) / 200)


def test_fewer_cards_than_k_still_count_as_k():
    payments = [Payment(day, f"{day} {i}", 0.5 + i / 10, fraud=i == 0) for day in range(4) for i in range(3)]
    for name in ("card_precision", "transaction_precision"):
        metric = reviewed(payments, 10).metric(name)
        assert (metric.value, metric.attainable, metric.random) == (0.1, 0.1, 0.1)


def test_a_data_set_without_key_or_amount_states_which_metric_is_missing_and_why():
    result = reviewed(random_payments(1, 200, 5, 20), 3, with_keys=False, amount=None)
    assert result.metric("card_precision").reason == "the data set declares no key"
    assert result.metric("value_detected").reason == "the data set declares no amount"
    assert result.metric("transaction_precision").low is not None
    assert (result.budgets, {d.cards_found for d in result.days}) == ((), {None})


def test_with_fewer_than_three_days_there_is_a_value_and_no_interval():
    payments = random_payments(1, 200, 2, 20)
    result = reviewed(payments, 3)
    for metric in result.metrics:
        assert metric.value is not None
        assert (metric.low, metric.high) == (None, None)
        assert metric.reason == "no interval: 2 whole days, at least 3 are needed"
    scores = np.array([p.score for p in payments])
    assert review_differences(review_rows(history_of(payments), np.arange(200), ReviewPlan()), scores, scores) == {}


def test_a_day_of_which_a_part_is_held_elsewhere_is_left_out():
    payments = random_payments(2, 400, 6, 20)
    history = history_of(payments)
    later = np.flatnonzero(history.event_time_ms >= 2 * DAY_MS + 9 * HOUR_MS)
    result = evaluate_reviews(review_rows(history, later, ReviewPlan(per_day=3)), np.full(len(later), 0.5), 3)
    assert [d.day for d in result.days] == ["1970-01-04", "1970-01-05", "1970-01-06"]
    one = np.flatnonzero((history.event_time_ms // DAY_MS == 2) & (history.event_time_ms % DAY_MS > 9 * HOUR_MS))
    none = evaluate_reviews(review_rows(history, one, ReviewPlan()), np.full(len(one), 0.5))
    assert {m.reason for m in none.metrics} == {"no whole day with known labels"}
    assert (none.days, none.budgets) == ((), ())


def test_rows_without_a_known_label_are_left_out():
    payments = random_payments(3, 400, 6, 20)
    unknown = [Payment(p.day, p.card, p.score + 2, np.nan) for p in payments[:100]]
    assert reviewed(payments + unknown, 5) == reviewed(payments, 5)


def test_amounts_that_are_missing_or_negative_add_nothing():
    payments = [Payment(day, "a", 0.5, fraud=1, amount=a) for day in range(4) for a in (10, np.nan, -5)]
    value = reviewed(payments, 3).metric("value_detected")
    assert (value.value, value.low, value.high, value.attainable) == (1, 1, 1, 1)


def test_ties_are_broken_without_favour():
    """Frauds come first in the file, and their cards pay more often; all scores are equal."""
    payments = [
        Payment(day, f"{day} {i}", 0.5, fraud=i < 10) for day in range(50) for i in range(100) for _ in range(2)
    ]
    result = reviewed(payments, 20)
    for name in ("card_precision", "transaction_precision"):
        metric = result.metric(name)
        assert metric.random == pytest.approx(0.1)
        assert metric.low < 0.1 < metric.high
    assert result == reviewed(payments, 20)


def test_a_random_score_meets_what_is_expected_of_it():
    payments = random_payments(4, 20_000, 60, 3000, fraud=0.05)
    result = reviewed(payments, 10)
    for metric in result.metrics:
        assert metric.low < metric.random < metric.high, metric.name


def test_value_detected_grows_with_the_budget_up_to_all_of_it():
    budgets = reviewed(random_payments(5, 3000, 10, 100), 100).budgets
    assert [b.per_day for b in budgets] == [1, 2, 5, 10, 20, 50, 100, 200, 500]
    assert all(np.diff([b.value for b in budgets]) >= 0)
    assert all(b.low <= b.value <= b.high and b.value <= b.attainable + 1e-12 for b in budgets)
    assert (budgets[-1].value, budgets[-1].attainable, budgets[-1].random) == (1, 1, 1)


def test_the_point_of_a_budget_is_the_metric_of_that_many_reviews():
    payments = random_payments(6, 3000, 10, 100)
    point = next(b for b in reviewed(payments, 100).budgets if b.per_day == 20)
    metric = reviewed(payments, 20).metric("value_detected")
    assert (point.value, point.low, point.high) == (metric.value, metric.low, metric.high)


def test_the_names_for_mlflow_hold_the_number_of_reviews():
    values = reviewed(random_payments(7, 300, 5, 30), 7).metric_values()
    assert values["card_precision_at_7"] <= values["card_precision_at_7_attainable"]
    assert {"transaction_precision_at_7_low", "value_detected_at_7_high"} < set(values)


def test_the_record_survives_json():
    for payments in (random_payments(8, 300, 5, 30), random_payments(8, 300, 1, 30, fraud=0)):
        result = reviewed(payments, 7)
        assert msgspec.json.decode(msgspec.json.encode(result), type=ReviewEvaluation) == result


def test_the_paired_difference_of_a_score_with_itself_is_zero():
    payments = random_payments(9, 500, 8, 50)
    scores = np.array([p.score for p in payments])
    rows = review_rows(history_of(payments), np.arange(500), ReviewPlan(amount="amount"))
    differences = review_differences(rows, scores, scores, 5)
    assert set(differences) == {"card_precision", "transaction_precision", "value_detected"}
    for this, other, interval in differences.values():
        assert this == other
        assert interval == (0, 0, 0)


def test_the_paired_difference_proves_the_better_score():
    payments = random_payments(10, 4000, 14, 400, fraud=0.05)
    noise = np.array([p.score for p in payments])
    good = noise + np.array([p.fraud for p in payments])
    rows = review_rows(history_of(payments), np.arange(4000), ReviewPlan(amount="amount"))
    better, worse = (review_differences(rows, *pair, 10) for pair in ((good, noise), (noise, good)))
    for name, (this, other, interval) in better.items():
        assert this - other == pytest.approx(interval.value)
        assert interval.low > 0, name
        assert worse[name][2].high < 0, name


@pytest.mark.parametrize("days", [7, 30])
def test_intervals_of_few_days_cover_at_their_nominal_rate(days):
    """The mean of `days` normal values; an interval without the correction covers about 90 % at seven days."""
    rng, held = default_rng(1), 0
    weights = next(resample_weights(days, 1000, seed=0)) / days
    for _ in range(400):
        values = rng.normal(size=days)
        low, high = bounds(values.mean(), weights @ values, small_sample_confidence(0.95, days))
        held += low <= 0 <= high
    assert 0.92 <= held / 400 <= 0.98  # each bound has a chance below 1 % by itself
