"""Why a score is what it is: the inputs that speak loudest for fraud."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from schemas.records import Reason
from scoring.arrays import Array, Columns, Matrix
from scoring.bundle.manifest import FeatureEncoding

STRONGEST = 3


def strongest_reasons(
    features: Sequence[FeatureEncoding],
    contributions: Matrix,
    columns: Columns,
    rows: Array,
) -> list[tuple[Reason, ...]]:
    """For each row, its at most three inputs that raise the score most, strongest first.

    contributions: shape (len(rows), n_features + 1), log-odds, the bias last (XGBoost's `pred_contribs`, exact
    TreeSHAP; Lundberg et al. 2020, From local explanations to global understanding with explainable AI for trees).
    columns: the cleaned columns the rows were scored from; rows: the rows' places in them.
    """
    ranked = np.argsort(-contributions[:, :-1], axis=1, kind="stable")[:, :STRONGEST]
    return [
        tuple(
            _reason(features[j], columns[features[j].name][row], float(contributions[i, j]))
            for j in ranked[i].tolist()
            if contributions[i, j] > 0
        )
        for i, row in enumerate(rows.tolist())
    ]


def _reason(feature: FeatureEncoding, seen: Any, contribution: float) -> Reason:
    value = _value(feature, seen)
    shown = "missing" if value is None else f"{value:g}" if isinstance(value, float) else value
    text = f"{feature.name} {shown}: multiplies the odds of fraud by {math.exp(contribution):.2f}"
    return Reason(feature=feature.name, value=value, contribution=contribution, text=text)


def _value(feature: FeatureEncoding, seen: Any) -> str | float | None:
    if feature.kind == "category":
        return None if seen is None else str(seen)
    return None if math.isnan(seen) else float(seen)
