"""Statistics of rules: sums, intervals and weights."""

import numpy as np
import pytest
from scipy.stats import binom

from monitoring.performance.rule_statistics import (
    LabelSums,
    RuleRows,
    RuleSums,
    amount_sum,
    rule_statistics,
    share,
)

N = 400


def rows(seed: int = 0, n: int = N) -> RuleRows:
    rng = np.random.default_rng(seed)
    return RuleRows(
        flagged=rng.random(n) < 0.2,
        declined=rng.random(n) < 0.1,
        frauds=rng.choice([0.0, 1.0, np.nan], n),
        amounts=np.where(rng.random(n) < 0.1, np.nan, rng.gamma(2, 50, n)),
        weights=np.where(rng.random(n) < 0.1, 20.0, 1.0),
    )


def part(whole: RuleRows, chosen: slice) -> RuleRows:
    return RuleRows(*(column[chosen] for column in whole))


def test_sums_of_two_parts_are_those_of_the_whole() -> None:
    whole, rng = rows(), np.random.default_rng(1)
    matches, unknown, others = (rng.random(N) < p for p in (0.3, 0.1, 0.2))

    def tally(chosen: slice) -> RuleSums:
        return part(whole, chosen).tally(matches[chosen], unknown[chosen], others[chosen])

    joined, expected = tally(slice(0, 150)).plus(tally(slice(150, N))), tally(slice(0, N))
    assert joined[:5] == expected[:5]
    assert np.allclose(np.array(joined[5:]), np.array(expected[5:]))


def test_labels_that_arrive_one_by_one_give_the_sums_of_columns() -> None:
    whole, rng = rows(), np.random.default_rng(1)
    matches, unknown, others = (rng.random(N) < p for p in (0.3, 0.1, 0.2))
    expected = whole.tally(matches, unknown, others)
    alone = matches & ~whole.flagged & ~others
    one_by_one = RuleSums(*expected[:5])
    for i in np.flatnonzero(matches & whole.honest):
        one = LabelSums.of(whole.weights[[i]], whole.amounts[[i]])
        name = "frauds" if whole.frauds[i] else "legitimate"
        for column in (name, f"{name}_alone") if alone[i] else (name,):
            one_by_one = one_by_one._replace(**{column: getattr(one_by_one, column).plus(one)})
    assert np.allclose(np.array(one_by_one[5:]), np.array(expected[5:]))


def test_a_declined_transaction_has_no_honest_label() -> None:
    yes = np.ones(4, np.bool_)
    given = RuleRows(
        flagged=~yes,
        declined=np.array([True, True, False, False]),
        frauds=np.array([1.0, 0.0, 1.0, np.nan]),
        amounts=np.full(4, 10.0),
        weights=np.ones(4),
    )
    found = rule_statistics(
        given.tally(yes, ~yes, ~yes),
        rule="r",
        version=1,
        effect="decline",
        mode="live",
        days=2,
        all_frauds=given.label_sums(yes)[0],
    )
    assert (found.matches, found.frauds, found.legitimate) == (4, 1, 0)
    assert found.unlabelled_share == 0.75
    assert found.matches_a_day == 2
    assert found.fraud_amount is not None
    assert found.fraud_amount.value == 10


def test_a_rule_without_labels_or_matches_states_no_estimate() -> None:
    found = rule_statistics(
        RuleSums(), rule="r", version=1, effect="review", mode="shadow", days=0, all_frauds=LabelSums()
    )
    assert (found.precision, found.recall, found.fraud_amount, found.unlabelled_share) == (None, None, None, None)


def test_matches_of_another_live_rule_or_of_the_model_are_no_catch_of_the_rule_alone() -> None:
    yes = np.ones(4, np.bool_)
    given = RuleRows(
        flagged=np.array([True, False, False, False]),
        declined=~yes,
        frauds=np.array([1.0, 1.0, 1.0, 0.0]),
        amounts=np.array([1.0, 2.0, 4.0, 8.0]),
        weights=np.ones(4),
    )
    found = given.tally(yes, ~yes, np.array([False, True, False, False]))
    assert (found.by_model, found.alone) == (1, 2)
    assert (found.frauds_alone.amount, found.legitimate_alone.amount) == (4.0, 8.0)


@pytest.mark.parametrize(("n", "p"), [(20, 0.1), (100, 0.5), (500, 0.02)])
def test_the_interval_of_a_share_covers_it_at_its_nominal_rate(n: int, p: float) -> None:
    covered = 0.0
    for k in range(n + 1):
        found = share(LabelSums(k, k, k), LabelSums(n - k, n - k, n - k))
        assert found is not None
        covered += binom.pmf(k, n, p) * (found.low <= p <= found.high)
    assert 0.93 <= covered <= 0.98


def test_the_interval_of_an_amount_covers_it_at_its_nominal_rate() -> None:
    rng, expected, covered = np.random.default_rng(3), 200 * 100.0, 0
    for _ in range(2_000):
        amounts = rng.gamma(2, 50, rng.poisson(200))
        found = amount_sum(LabelSums.of(np.ones(len(amounts)), amounts))
        assert found is not None
        covered += found.low <= expected <= found.high
    assert 0.93 <= covered / 2_000 <= 0.97


def test_explored_transactions_represent_the_declined_ones() -> None:
    """A rule declines half of what it matches at random; a tenth of that is explored and weighs ten times."""
    rng, n = np.random.default_rng(5), 200_000
    frauds = (rng.random(n) < 0.3).astype(np.float64)
    would_decline = frauds == 1  # the worst case: labels of all frauds are lost without exploration
    explored = would_decline & (rng.random(n) < 0.1)
    given = RuleRows(
        flagged=np.zeros(n, np.bool_),
        declined=would_decline & ~explored,
        frauds=frauds,
        amounts=np.ones(n),
        weights=np.where(explored, 10.0, 1.0),
    )
    found = share(*given.label_sums(np.ones(n, np.bool_)))
    assert found is not None
    assert found.low < 0.3 < found.high
    assert found.high - found.low < 0.02
