"""Labels joined to decisions, in any order and with repetitions, matured only; and the resulting metrics."""

from collections.abc import Sequence
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from monitoring.alerting.retrain_policy import RetrainState, evaluate_policy
from monitoring.drift.context import AlertContext
from monitoring.performance.label_join import LabelJoin
from monitoring.performance.rolling_metrics import PerformancePolicy, claimed_roc_auc
from schemas.records import Decision, Label
from schemas.time_units import DAY_MS

POLICY = PerformancePolicy(maturity_ms=2 * DAY_MS, window=4000)
LATER = 100 * DAY_MS
RNG = np.random.default_rng(5)
SCORES = RNG.beta(0.5, 8.0, 4000)
FRAUD = RNG.random(4000) < SCORES


def decision(i: int, score: float, day: float = 0.0, version: int = 1) -> Decision:
    return Decision(
        decision_id=f"d-{i}",
        transaction_id=f"t-{i}",
        score=score,
        outcome="review" if score >= 0.3 else "approve",
        model_outcome="review" if score >= 0.3 else "approve",
        decided_by="model",
        exploration_share=None,
        ruleset=None,
        threshold=0.3 if score >= 0.3 else 0.0,
        model="m",
        model_version=version,
        event_time_ms=int(day * DAY_MS),
    )


def label(i: int, fraud: bool | None, day: float = 1.0) -> Label:
    return Label(transaction_id=f"t-{i}", fraud=fraud, reported_at_ms=int(day * DAY_MS))


def observed(events: Sequence[Decision | Label], policy: PerformancePolicy = POLICY) -> LabelJoin:
    performance = LabelJoin(policy)
    for event in events:
        if isinstance(event, Label):
            performance.add_label(event)
        else:
            performance.add_decision(event)
    return performance


def history(scores: Sequence[float] = SCORES, fraud: Sequence[bool] = FRAUD) -> list[Decision | Label]:
    made = [decision(i, float(s), day=i / 400) for i, s in enumerate(scores)]
    return [*made, *(label(i, bool(f), day=i / 400 + 1) for i, f in enumerate(fraud))]


def test_the_measures_are_those_of_scikit_learn_on_the_same_rows() -> None:
    report = observed(history()).report(1, LATER)
    assert (report.rows, report.frauds, report.labelled, report.matured) == (4000, int(FRAUD.sum()), 4000, 4000)
    assert report.roc_auc == pytest.approx(roc_auc_score(FRAUD, SCORES), abs=1e-9)
    assert report.average_precision == pytest.approx(average_precision_score(FRAUD, SCORES), abs=0.01)
    assert report.recall == pytest.approx(FRAUD[SCORES >= 0.3].sum() / FRAUD.sum())
    assert report.expected_frauds == pytest.approx(SCORES.sum())
    assert report.label_delay_ms == DAY_MS


def test_explored_declines_count_for_those_that_were_declined_as_scikit_learn_weighs_them() -> None:
    explored = SCORES >= 0.2
    drawn = explored & (np.arange(4000) % 4 == 0)
    seen = ~explored | drawn
    weights = np.where(drawn, 4.0, 1.0)
    events = [
        msgspec.structs.replace(e, decided_by="exploration", exploration_share=0.25)
        if isinstance(e, Decision) and drawn[int(e.transaction_id[2:])]
        else e
        for e in history()
        if seen[int(e.transaction_id[2:])]
    ]
    report = observed(events).report(1, LATER)
    truth, scores, w = FRAUD[seen], SCORES[seen], weights[seen]
    assert report.roc_auc == pytest.approx(roc_auc_score(truth, scores, sample_weight=w), abs=1e-9)
    assert report.average_precision == pytest.approx(average_precision_score(truth, scores, sample_weight=w), abs=1e-9)
    assert report.recall == pytest.approx((w * truth)[scores >= 0.3].sum() / (w * truth).sum())
    assert (report.rows, report.frauds) == (seen.sum(), truth.sum())
    assert report.expected_frauds == pytest.approx(scores.sum())
    assert report.alarm is None, "a calibrated model stays calibrated on what exploration lets through"


def test_days_are_those_of_the_transactions_not_of_the_labels() -> None:
    days = observed(history()).report(1, LATER).days
    assert [d.day_ms // DAY_MS for d in days] == list(range(10))
    assert [d.frauds for d in days] == FRAUD.reshape(10, 400).sum(axis=1).tolist()


def test_labels_before_and_after_their_decisions_and_repeated_ones_all_say_the_same() -> None:
    events = history()
    expected = observed(events).report(1, LATER)
    assert observed([*events[4000:], *events[:4000]]).report(1, LATER) == expected
    twice = [event for event in events for _ in range(2)]
    assert observed([*twice, *events]).report(1, LATER) == expected


def test_reports_in_between_do_not_change_what_is_said_in_the_end() -> None:
    performance = LabelJoin(POLICY)
    for i, (score, fraud) in enumerate(zip(SCORES[:500], FRAUD[:500], strict=True)):
        performance.add_decision(decision(i, float(score), day=i / 400))
        performance.add_label(label(i, bool(fraud), day=i / 400 + 1))
        if i % 50 == 0:
            performance.report(1, int(i / 400 * DAY_MS))
    once = observed(history(SCORES[:500], FRAUD[:500])).report(1, LATER)
    assert performance.report(1, LATER) == once


#  day      0         1         2         3
#  t-0      decided
#                     label: fraud
#                               final
def test_a_label_counts_only_when_its_transaction_is_old_enough() -> None:
    performance = observed([decision(0, 0.5), label(0, True, day=1)])
    assert performance.report(1, 2 * DAY_MS - 1).rows == 0
    assert performance.report(1, 2 * DAY_MS).rows == 1


def test_until_it_counts_the_later_reported_label_stands_and_then_a_contradiction_is_counted_once() -> None:
    performance = observed([decision(0, 0.5), label(0, True, day=1.5), label(0, False, day=1)])
    assert performance.report(1, LATER).frauds == 1
    for _ in range(3):
        performance.add_label(label(0, False, day=5))
    report = performance.report(1, LATER)
    assert (report.frauds, report.revised_labels) == (1, 1)


def test_a_reviewer_who_is_not_sure_labels_nothing_and_is_counted() -> None:
    performance = observed([decision(0, 0.5), label(0, None), decision(1, 0.5), label(1, True), label(1, None, day=5)])
    report = performance.report(1, LATER)
    assert (report.rows, report.frauds, report.unsure_labels, report.revised_labels) == (1, 1, 2, 0)
    performance.add_label(label(0, False, day=6))
    assert performance.report(1, LATER).rows == 2


def test_labels_of_unknown_transactions_are_counted_and_do_not_pile_up() -> None:
    performance = observed([label(i, True) for i in range(30)], replace(POLICY, early=10))
    assert performance.report(1, LATER).unknown_labels == 30
    performance.add_decision(decision(29, 0.5))
    performance.add_decision(decision(0, 0.5))
    report = performance.report(1, LATER)
    assert (report.unknown_labels, report.rows) == (29, 1)


def test_decisions_that_are_forgotten_are_the_oldest_and_their_labels_are_unknown() -> None:
    events = [*(decision(i, 0.5) for i in range(100)), *(label(i, True) for i in range(100))]
    report = observed(events, replace(POLICY, remembered=40)).report(1, LATER)
    assert (report.rows, report.matured, report.unknown_labels) == (40, 40, 60)


def test_a_version_is_judged_by_its_own_decisions_only() -> None:
    old = [decision(i, 0.01, version=1) for i in range(300)]
    new = [decision(i, 0.5, version=2) for i in range(300, 600)]
    performance = observed(
        [*old, *new, *(label(i, True) for i in range(300)), *(label(i, i % 2 == 0) for i in range(300, 600))]
    )
    assert "300 frauds" in (performance.alarm(1, LATER) or "")
    assert performance.alarm(2, LATER) is None


def test_a_model_whose_scores_come_true_raises_no_alarm() -> None:
    # 100 windows of 1,000 rows: at one in 900 a look and three bounds, more than one false one is a fault.
    rng = np.random.default_rng(11)
    alarms = 0
    for _ in range(100):
        scores = rng.beta(0.5, 8.0, 1000)
        fraud = rng.random(1000) < scores
        alarms += observed(history(scores.tolist(), fraud.tolist())).alarm(1, LATER) is not None
    assert alarms <= 1


BAD = {
    "twice the fraud": (SCORES / 2, FRAUD, "at least"),
    "half the fraud": (np.minimum(1.0, SCORES * 2.5), FRAUD, "at most"),
    "another signal": (RNG.permutation(SCORES), FRAUD, "ROC AUC"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_model_that_got_worse_is_said_to(case: str) -> None:
    scores, fraud, said = BAD[case]
    assert said in (observed(history(scores.tolist(), fraud.tolist())).alarm(1, LATER) or "")


def test_where_only_frauds_are_reported_nothing_is_judged() -> None:
    events = [e for e in history() if not isinstance(e, Label) or e.fraud]
    report = observed(events).report(1, LATER)
    assert (report.alarm, report.labelled) == (None, int(FRAUD.sum()))


def test_the_alarm_is_looked_at_once_a_day() -> None:
    performance = observed(history((SCORES / 2).tolist()))
    assert performance.alarm(1, 9 * DAY_MS) is not None
    for i in range(4000, 8000):
        performance.add_decision(decision(i, 0.02, day=6))
        performance.add_label(label(i, i % 50 == 0, day=6))
    assert performance.alarm(1, 10 * DAY_MS - 1) is not None
    assert performance.alarm(1, 10 * DAY_MS) is None


def test_scores_that_claim_nothing_claim_half() -> None:
    assert claimed_roc_auc(np.full(50, 0.03)) == pytest.approx(0.5)
    assert claimed_roc_auc(np.zeros(50)) is None


def test_what_labels_say_goes_with_the_report_and_asks_for_training_once() -> None:
    around = AlertContext(maturity_ms=2 * DAY_MS)
    for event in history((SCORES / 2).tolist()):
        if isinstance(event, Label):
            around.add_label(event)
        else:
            around.add_decision(b"card", event)
    assert around.performance(1, LATER).alarm is not None
    alarm = around.performance_alarm(1, LATER)
    watch, request = evaluate_policy(RetrainState(), [], [], LATER, model="m", model_version=1, performance_alarm=alarm)
    assert request is not None
    assert (request.cause, request.reason) == ("performance", alarm)
    assert (
        evaluate_policy(watch, [], [], LATER + DAY_MS, model="m", model_version=1, performance_alarm=alarm)[1] is None
    )
