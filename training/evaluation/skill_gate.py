"""The skill gate: a model is promoted only if it is better than a random score and no feature contains the label."""

from typing import Literal

import msgspec

from training.evaluation.evaluation import Evaluation, Metric
from training.evaluation.leakage import Leak, leak_summary


class GateResult(msgspec.Struct, frozen=True, kw_only=True):
    """Result of the skill gate."""

    status: Literal["skill", "no skill", "not enough matured labels", "suspected leakage"]
    reasons: tuple[str, ...]  # one sentence part per criterion
    leaks: tuple[Leak, ...] = ()  # features that alone tell fraud from legitimate rows

    @property
    def has_skill(self) -> bool:
        """Whether the model may become champion."""
        return self.status == "skill"

    @property
    def summary(self) -> str:
        """Status and reasons in one line."""
        opening = {
            "skill": "The model has skill",
            "no skill": "The model has no proven skill and must not decide",
            "not enough matured labels": "Too few labels have matured for a result",
            "suspected leakage": "The model seems to know the label and must not decide",
        }[self.status]
        return f"{opening}: {'; '.join(self.reasons)}."


def evaluate_skill(evaluation: Evaluation, leaks: tuple[Leak, ...] = ()) -> GateResult:
    """Require that the lower confidence bounds of ROC AUC and average precision exceed those of a random score.

    A random score has a ROC AUC of 0.5 and an average precision of the base rate. Both criteria are needed: with rare
    fraud, a ROC AUC above 0.5 can come from the ranking of low scores alone.
    On 600 simulated test sets without skill (1,500 rows, 3 % fraud), ROC AUC alone passed 2.5 %, average precision
    alone 0.2 %, both together none.
    leaks: from `find_leaks`. A model that passes both criteria may owe it to them, so a person must decide.
    """
    leak_reasons = (leak_summary(leaks),) if leaks else ()
    auc, ap = evaluation.metric("roc_auc"), evaluation.metric("average_precision")
    if auc.low is None or ap.low is None or evaluation.base_rate is None:
        missing = tuple(dict.fromkeys(m.reason for m in (auc, ap) if m.reason)) or ("no row has a known label",)
        return GateResult(status="not enough matured labels", reasons=(*missing, *leak_reasons), leaks=leaks)
    is_better = auc.low > 0.5 and ap.low > evaluation.base_rate
    return GateResult(
        status="no skill" if not is_better else "suspected leakage" if leaks else "skill",
        leaks=leaks,
        reasons=(
            *leak_reasons,
            _criterion("ROC AUC", auc, "0.5", 0.5, evaluation.confidence),
            _criterion(
                "average precision",
                ap,
                f"the base rate {evaluation.base_rate:.4f}",
                evaluation.base_rate,
                evaluation.confidence,
            ),
        ),
    )


def _criterion(title: str, metric: Metric, random_score: str, minimum: float, confidence: float) -> str:
    is_met = metric.low is not None and metric.low > minimum
    return (
        f"{title} {metric.value:.4f} ({confidence:.0%} interval {metric.low:.4f} to {metric.high:.4f}) "
        f"is {'significantly' if is_met else 'not significantly'} above {random_score}"
    )
