"""Explanations: the inputs that raise a score most (exact TreeSHAP)."""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from schemas.records import Reason
from scoring.arrays import Array, Columns, Matrix
from scoring.bundle.feature_definitions import ProfileDefinition
from scoring.bundle.manifest import FeatureEncoding
from scoring.profile_descriptions import describe_value

MAX_REASONS = 3


def strongest_reasons(
    features: Sequence[FeatureEncoding],
    contributions: Matrix,
    columns: Columns,
    rows: Array,
    profiles: Mapping[str, ProfileDefinition] = MappingProxyType({}),
) -> list[tuple[Reason, ...]]:
    """Up to `MAX_REASONS` inputs per row that raise its score most, strongest first.

    contributions: shape (len(rows), n_features + 1), in log-odds, the bias last, from `ScoringModel.contributions`.
    columns: cleaned columns that the rows were scored from. rows: positions of the rows in the columns.
    profiles: definitions of profile features by name, which reasons name in words.
    Source: Lundberg et al. (2020), From local explanations to global understanding with explainable AI for trees.
    """
    ranked = np.argsort(-contributions[:, :-1], axis=1, kind="stable")[:, :MAX_REASONS]
    return [
        tuple(
            _reason(
                features[j], profiles.get(features[j].name), columns[features[j].name][row], float(contributions[i, j])
            )
            for j in ranked[i].tolist()
            if contributions[i, j] > 0
        )
        for i, row in enumerate(rows.tolist())
    ]


def _reason(feature: FeatureEncoding, profile: ProfileDefinition | None, seen: Any, contribution: float) -> Reason:
    value = _value(feature, seen)
    if profile is not None and not isinstance(value, str):
        shown = describe_value(profile, value)
    else:
        shown = f"{feature.name} {'missing' if value is None else f'{value:g}' if isinstance(value, float) else value}"
    text = f"{shown}: multiplies the odds of fraud by {math.exp(contribution):.2f}"
    return Reason(feature=feature.name, value=value, contribution=contribution, text=text)


def _value(feature: FeatureEncoding, seen: Any) -> str | float | None:
    if feature.kind == "category":
        return None if seen is None else str(seen)
    return None if math.isnan(seen) else float(seen)
