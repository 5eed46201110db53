"""Columns that know the label: equal to it, nearly so alone, or known only afterwards by their name. Pure."""

import math
from collections.abc import Sequence

import numpy as np

from schemas.dataset.value_formats import fold_spelling
from scoring.arrays import Floats
from training.declaration.column import Column
from training.declaration.roles import TRUTH, LabelRole
from training.evaluation.leakage import MAX_ROC_AUC, has_both_classes, two_sided_auc

MAX_LEVELS = 50
AFTERWARDS = (
    *("newbalance", "balanceafter", "flagged", "chargeback", "contracargo", "dispute", "disputa", "refund"),
    *("settled", "settlement", "resolution", "resolved", "investigat", "confirmed", "writeoff", "recovered"),
)


def label_of(column: Column, role: LabelRole) -> Floats:
    """1 for fraud, 0 for legitimate, NaN for unknown, shape (n,)."""
    fraud, legitimate = set(role.fraud), set(role.legitimate)

    def read(text: str | None) -> float:
        if text is None:
            return math.nan
        if fraud:
            return 1.0 if text in fraud else 0.0 if text in legitimate else math.nan
        return float(TRUTH.get(fold_spelling(text), math.nan))

    return np.array([read(text) for text in column.texts])


def find_leak(column: Column, label: Floats | None) -> str | None:
    """Why a column is not known when a transaction is scored; None without evidence."""
    named = next((word for word in AFTERWARDS if word in column.compact_name), None)
    if named is not None:
        return f"known only afterwards, by its name ({named})"
    if label is None:
        return None
    auc = single_auc(column, label)
    if auc is None or auc <= MAX_ROC_AUC:
        return None
    return "equal to the label" if auc == 1 else f"separates fraud from legitimate rows alone (AUC {auc:.4f})"


def single_auc(column: Column, label: Floats) -> float | None:
    """AUC of one column against the label, in the better direction; None where it cannot be judged."""
    scores = column.numbers() if column.is_numeric else _rates(column.texts, label)
    if scores is None:
        return None
    known = np.isfinite(scores) & np.isfinite(label)
    scores, truth = scores[known], label[known]
    return two_sided_auc(truth, scores) if has_both_classes(truth) else None


def _rates(texts: Sequence[str | None], label: Floats) -> Floats | None:
    """The share of fraud in the level of each row; None for too many levels."""
    levels = list(dict.fromkeys(text for text in texts if text is not None))
    if not 2 <= len(levels) <= MAX_LEVELS:
        return None
    rates = dict.fromkeys(levels, math.nan)
    codes = np.array([-1 if text is None else levels.index(text) for text in texts])
    for code, level in enumerate(levels):
        inside = label[(codes == code) & np.isfinite(label)]
        rates[level] = float(inside.mean()) if len(inside) else math.nan
    return np.array([math.nan if text is None else rates[text] for text in texts])
