"""The review queue as a fold: what waits, which label holds, bounded memory, pages and filters."""

from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.records import Decision, Label, Outcome, Reason, RuleMatch
from stream_app.reviews.review_queue import MAX_JUDGED, ORDERS, CaseFilter, DecisionPlace, Order, ReviewQueue

PLACE = DecisionPlace(partition=0, offset=0, input_offset=7, topic_id="")
ALL = CaseFilter(outcomes=frozenset({"review", "challenge", "decline"}))


def flagged(n: int, outcome: Outcome = "review", score: float = 0.5, **changes: object) -> Decision:
    decision = Decision(
        decision_id=f"d{n}",
        transaction_id=f"t{n}",
        score=score,
        outcome=outcome,
        model_outcome=outcome,
        decided_by="model",
        ruleset=None,
        exploration_share=None,
        threshold=0.3,
        reasons=(Reason(feature="monto", value=9.0, contribution=1.0, text=f"Amount of {n}"),),
        model="m",
        model_version=1,
        event_time_ms=0,
    )
    return msgspec.structs.replace(decision, **changes)


def label(n: int, fraud: bool | None, at_ms: int = 0, by: str | None = None) -> Label:
    return Label(transaction_id=f"t{n}", fraud=fraud, reported_at_ms=at_ms, by=by)


def folded(*records: Decision | Label, queue: ReviewQueue | None = None, key: bytes = b"card") -> ReviewQueue:
    queue = ReviewQueue() if queue is None else queue
    for at, record in enumerate(records):
        if isinstance(record, Label):
            queue.add_label(record)
        else:
            queue.add_decision(record, key, PLACE, at)
    return queue


def ids(queue: ReviewQueue, wanted: CaseFilter = ALL, order: Order = "newest") -> list[str]:
    return [case.decision.decision_id for case in queue.listed(wanted, order, 1_000).cases]


def test_flagged_transactions_without_a_label_wait_newest_first_and_repeated_ones_once() -> None:
    queue = folded(flagged(1), flagged(2, "approve"), flagged(3, "decline"), flagged(4, "challenge"), flagged(1))
    assert ids(queue) == ["d4", "d3", "d1"]
    assert ids(queue, CaseFilter()) == ["d1"], "the queue is of reviews; the others are listed on request"
    assert queue.waiting == 1


@pytest.mark.parametrize("fraud", [True, False])
def test_a_label_ends_the_waiting_whether_it_comes_after_or_before_its_decision(fraud: bool) -> None:
    for records in ((flagged(1), label(1, fraud)), (label(1, fraud), flagged(1))):
        queue = folded(*records)
        assert (ids(queue), queue.waiting) == ([], 0)
        verdict = queue.verdict("t1")
        assert verdict is not None
        assert verdict.verdict == ("fraud" if fraud else "legitimate")


def test_a_reviewer_who_is_not_sure_leaves_the_case_for_another() -> None:
    queue = folded(flagged(1), flagged(2, "decline"), label(1, None, by="web:ana"), label(2, None))
    assert (ids(queue), queue.waiting, queue.unsure) == ([], 0, 2)
    assert ids(queue, CaseFilter(unsure=True)) == ["d2", "d1"]
    folded(label(1, True, at_ms=5, by="web:ben"), label(1, None, at_ms=9, by="web:eva"), queue=queue)
    verdict = queue.verdict("t1")
    assert verdict is not None
    assert (verdict.verdict, verdict.by) == ("fraud", "web:ben")
    assert queue.unsure == 1


def test_of_two_labels_the_later_reported_one_holds() -> None:
    for labels in ((label(1, True, 5), label(1, False, 9)), (label(1, False, 9), label(1, True, 5))):
        for records in ((flagged(1), *labels), (*labels, flagged(1))):
            verdict = folded(*records).verdict("t1")
            assert verdict is not None
            assert verdict.verdict == "legitimate"


def test_memory_holds_the_newest_and_the_others_are_counted() -> None:
    queue = ReviewQueue(max_waiting=10, max_others=5, max_labels=20)
    folded(*(flagged(n) for n in range(30)), *(flagged(n, "decline") for n in range(30, 50)), queue=queue)
    assert ids(queue) == [f"d{n}" for n in (*range(49, 44, -1), *range(29, 19, -1))]
    assert queue.cut == 20 + 15
    folded(*(label(n, True) for n in range(1_000)), queue=queue)
    assert ids(queue) == []
    folded(*(flagged(n) for n in range(975, 985)), queue=queue)
    assert ids(queue) == [f"d{n}" for n in range(979, 974, -1)], "of the labels, the last 20 are remembered"


def test_a_judged_case_can_be_found_for_a_correction_and_the_oldest_is_forgotten() -> None:
    queue = folded(*(record for n in range(MAX_JUDGED + 1) for record in (flagged(n), label(n, True))))
    assert queue.find("d0") is None
    assert (queue.verdict("t0") or None) is not None, "its label is still remembered"
    assert queue.find("d1") is not None


def test_filters_by_card_rule_and_reason() -> None:
    match = RuleMatch(kind="rule", name="night", version=2, effect="review", mode="shadow", reason="at Night, abroad")
    queue = folded(flagged(1), flagged(2, matches=(match,)))
    folded(flagged(3), queue=queue, key=b"other")
    assert ids(queue, ALL._replace(card="other")) == ["d3"]
    assert ids(queue, ALL._replace(rule="night")) == ["d2"]
    assert ids(queue, ALL._replace(rule="nigh")) == []
    assert ids(queue, ALL._replace(reason="NIGHT")) == ["d2"]
    assert ids(queue, ALL._replace(reason="amount of 3")) == ["d3"]


CASES = st.lists(st.tuples(st.sampled_from([0.1, 0.5, 0.9]), st.sampled_from([None, 5.0, 70.0])), max_size=12)


@given(CASES, st.sampled_from(ORDERS), st.integers(1, 5), st.data())
def test_pages_list_each_case_once_in_order_even_when_some_are_judged_in_between(
    cases: Sequence[tuple[float, float | None]], order: Order, limit: int, data: st.DataObject
) -> None:
    queue = folded(*(flagged(n, score=score) for n, (score, _) in enumerate(cases)))
    for n, (_, amount) in enumerate(cases):
        case = queue.find(f"d{n}")
        assert case is not None
        case.amount = amount
    whole = ids(queue, order=order)
    assert sorted(whole) == sorted(f"d{n}" for n in range(len(cases)))
    listed: list[str] = []
    after: str | None = ""
    while after is not None:
        page = queue.listed(ALL, order, limit, after)
        listed += [case.decision.decision_id for case in page.cases]
        after = page.next
        judged = data.draw(st.sampled_from([*listed, None]))
        if judged is not None:
            queue.add_label(label(int(judged[1:]), True))
    assert listed == whole


def test_the_position_of_no_page_is_refused() -> None:
    for after in ("x", "1", "1~", "~1", "1~a", "nan~b"):
        with pytest.raises(ValueError, match=r"invalid literal|could not convert"):
            folded(flagged(1)).listed(ALL, "newest", 5, after)
