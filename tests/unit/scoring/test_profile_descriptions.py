"""Profile features in words: every aggregate has a description and a sentence for a value."""

import numpy as np
import pytest

from schemas.dataset.profiles import AGGREGATES
from scoring.bundle.feature_definitions import ProfileDefinition
from scoring.bundle.manifest import FeatureEncoding
from scoring.explanations import strongest_reasons
from scoring.profile_descriptions import describe, describe_value

CASES = [
    ("count", None, 8.0, "8 transactions of this card in the last hour"),
    ("count", None, 1.0, "1 transaction of this card in the last hour"),
    ("sum", "amount", 120.5, "sum amount of this card in the last hour: 120.5"),
    ("mean", "amount", 60.25, "mean amount of this card in the last hour: 60.25"),
    ("max", "amount", 100.0, "largest amount of this card in the last hour: 100"),
    ("std", "amount", 3.5, "standard deviation of amount of this card in the last hour: 3.5"),
    ("ratio", "amount", 4.2, "amount 4.2 times the mean of this card in the last hour"),
    ("ratio_max", "amount", 0.5, "amount 0.5 times the largest of this card in the last hour"),
    ("zscore", "amount", -2.1, "amount 2.1 standard deviations below the mean of this card in the last hour"),
    ("distinct", "city", 3.0, "3 different values of city of this card in the last hour"),
    ("seconds_since_last", None, 7200.0, "2 hours since the previous transaction of this card"),
    ("is_new", "city", 1.0, "city is new for this card in the last hour"),
    ("labelled_count", None, 12.0, "12 labelled transactions of this card in the hour before the last 7 days"),
    ("fraud_count", None, 2.0, "2 frauds of this card in the hour before the last 7 days"),
    ("fraud_rate", None, 0.123, "fraud rate of this card 12.3% in the hour before the last 7 days"),
    (
        "frauds_in_row",
        None,
        3.0,
        "newest 3 labelled transactions of this card were fraud in the hour before the last 7 days",
    ),
    (
        "last_label",
        None,
        0.0,
        "newest labelled transaction of this card was not fraud in the hour before the last 7 days",
    ),
    ("seconds_since_fraud", None, 864000.0, "10 days since the last known fraud of this card"),
]
LABELS = ("labelled_count", "fraud_count", "fraud_rate", "frauds_in_row", "last_label")


def definition(aggregate: str, field: str | None = None) -> ProfileDefinition:
    delay = "7d" if aggregate in LABELS else None
    return ProfileDefinition(
        feature=f"card_{aggregate}", entity="card", kind="key", aggregate=aggregate, field=field, window="1h",
        label_delay=delay,
    )  # fmt: skip


@pytest.mark.parametrize(("aggregate", "field", "value", "words"), CASES)
def test_a_value_is_a_sentence(aggregate: str, field: str | None, value: float, words: str) -> None:
    assert describe_value(definition(aggregate, field), value) == words


def test_every_aggregate_has_a_sentence_and_a_description() -> None:
    assert {aggregate for aggregate, *_ in CASES} == set(AGGREGATES)
    for aggregate, field, *_ in CASES:
        feature = definition(aggregate, field)
        assert describe(feature) != feature.feature
        assert describe_value(feature, None) == f"{describe(feature)}: missing"


def test_reasons_name_profile_features_in_words_and_by_name() -> None:
    features = (
        FeatureEncoding(name="amount", kind="number", mean=1.0),
        FeatureEncoding(name="card_count", kind="number", mean=1.0),
    )
    columns = {"amount": np.array([9.0]), "card_count": np.array([8.0])}
    profiles = {"card_count": definition("count")}
    (reasons,) = strongest_reasons(features, np.array([[0.2, 0.7, -3.0]]), columns, np.array([0]), profiles)
    assert [(r.feature, r.value) for r in reasons] == [("card_count", 8.0), ("amount", 9.0)]
    assert reasons[0].text == "8 transactions of this card in the last hour: multiplies the odds of fraud by 2.01"
    assert reasons[1].text == "amount 9: multiplies the odds of fraud by 1.22"
