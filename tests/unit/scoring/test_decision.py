"""Outcomes of scores, and the reasons that people read."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.records import Decision, Reason, RuleMatch
from scoring.decision import EXPLORATION_TEXT, OUTCOMES, OperatingPoints, outcome_codes, reason_texts, thresholds

SCORES = st.floats(0, 1)


@given(st.lists(SCORES, min_size=3, max_size=3), st.lists(SCORES), st.booleans())
def test_each_score_gives_the_most_severe_outcome_whose_threshold_it_reaches(
    chosen: list[float], scores: list[float], challenges: bool
) -> None:
    review, challenge, decline = sorted(chosen)
    points = OperatingPoints(review=review, decline=decline, challenge=challenge if challenges else None)
    codes = outcome_codes(np.array(scores), points)
    limits = dict(zip(OUTCOMES, thresholds(points), strict=True))
    if not challenges:
        del limits["challenge"]
    expected = [max((name for name in limits if limits[name] <= score), key=OUTCOMES.index) for score in scores]
    assert [OUTCOMES[code] for code in codes] == expected


MODEL = Reason(feature="monto", value=950.0, contribution=1.0, text="monto is 950")
LIVE = RuleMatch(kind="rule", name="large", version=3, effect="review", mode="live", reason="a large payment")
SHADOW = RuleMatch(kind="rule", name="tried", version=1, effect="block", mode="shadow", reason="a trial")


@pytest.mark.parametrize(
    ("by", "share", "texts"),
    [
        ("model", None, ["monto is 950", "rule large: a large payment"]),
        ("rule", None, ["rule large: a large payment", "monto is 950"]),
        ("exploration", 0.1, [EXPLORATION_TEXT, "monto is 950", "rule large: a large payment"]),
    ],
)
def test_the_reason_of_who_decided_comes_first_and_rules_in_shadow_give_none(
    by: str, share: float | None, texts: list[str]
) -> None:
    decision = Decision(
        decision_id="d",
        transaction_id="t",
        score=0.9,
        outcome="review",
        model_outcome="review",
        decided_by=by,  # type: ignore[arg-type]
        exploration_share=share,
        ruleset=1,
        matches=(LIVE, SHADOW),
        threshold=0.5,
        reasons=(MODEL,),
        model="m",
        model_version=1,
        event_time_ms=0,
    )
    assert list(reason_texts(decision)) == texts
