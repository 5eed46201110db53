"""Reasons of a decision: the inputs that raise the score, strongest first, with their values."""

import numpy as np

from scoring.bundle.manifest import FeatureEncoding
from scoring.explanations import strongest_reasons

FEATURES = (
    FeatureEncoding(name="monto", kind="number", mean=500.0),
    FeatureEncoding(name="ciudad", kind="category", levels=("Merida",)),
    FeatureEncoding(name="is_prime", kind="boolean", mean=0.1),
    FeatureEncoding(name="hour", kind="number", mean=12.0),
    FeatureEncoding(name="dcto", kind="number", mean=10.0),
)
COLUMNS = {
    "monto": np.array([1.0, 900.0]),
    "ciudad": np.array(["Merida", None], dtype=object),
    "is_prime": np.array([0.0, 1.0]),
    "hour": np.array([3.0, np.nan]),
    "dcto": np.array([0.0, 0.0]),
}


def test_the_three_strongest_for_fraud_come_strongest_first_as_they_were_seen() -> None:
    contributions = np.array([[0.7, 0.2, -3.0, 1.5, 0.1, -4.0]])
    (reasons,) = strongest_reasons(FEATURES, contributions, COLUMNS, np.array([1]))
    assert [(r.feature, r.value, r.contribution) for r in reasons] == [
        ("hour", None, 1.5),
        ("monto", 900.0, 0.7),
        ("ciudad", None, 0.2),
    ]
    assert reasons[1].text == "monto 900: multiplies the odds of fraud by 2.01"


def test_what_speaks_against_fraud_is_no_reason() -> None:
    contributions = np.array([[-0.7, -0.2, 0.5, 0.0, -0.1, 9.0]])
    (reasons,) = strongest_reasons(FEATURES, contributions, COLUMNS, np.array([0]))
    assert [(r.feature, r.value) for r in reasons] == [("is_prime", 0.0)]
