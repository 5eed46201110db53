"""Promotion: a new version becomes champion if it passes the skill gate and beats the champion on the same rows."""

from typing import Literal

import msgspec

from monitoring.counting.monitored_model import MonitoredModel
from schemas.configuration.settings import Settings
from schemas.errors import ModelIncompatibleError, ModelUnavailableError
from schemas.promotion_log import VersionTransition
from scoring.bundle.declaration_match import manifest_mismatch
from training.data.history import History
from training.evaluation.backtest_window import BacktestWindow
from training.evaluation.review_metrics import TITLES, metric_title
from training.evaluation.review_ranking import ReviewPlan
from training.evaluation.skill_gate import GateResult
from training.evaluation.version_comparison import Comparison, MetricComparison, compare
from training.registry import version_transitions
from training.registry.model_loader import registered_model
from training.registry.version_transitions import TransitionRefusedError

DECISION_METRIC = "roc_auc"  # must be better than the champion's
GUARD_METRICS = ("average_precision", "card_precision", "value_detected")  # must not be worse than the champion's
MIN_GUARD_DAYS = (
    6  # for the metrics by day: with fewer, all days favour one of two equal models too often (2^-5 > 2.5 %)
)
MAX_COMPARISONS = 3  # attempts, when the champion changes during the comparison
METRIC_TITLES = {"roc_auc": "ROC AUC", "average_precision": "average precision"}


class PromotionDecision(msgspec.Struct, frozen=True, kw_only=True):
    """The decision on a new version, and its reason."""

    status: Literal["promoted", "retained", "not enough matured labels", "awaiting approval"]
    summary: str  # one sentence for people
    comparison: Comparison | None = None  # with the champion on the backtest's rows; None when there was none


class Champion(msgspec.Struct, frozen=True, kw_only=True):
    """The current champion and its comparison with a new version."""

    version: int
    forced: bool  # a person promoted it although the skill gate failed
    comparison: Comparison | None  # of the new version (this) with the champion (other)
    incomparable: str | None = None  # reason why there is no comparison


def evaluate_challenger(
    gate: GateResult, champion: Champion | None, *, margin: float = 0.0, by_approval: bool = False
) -> PromotionDecision:
    """Promote a new version if it passes the skill gate and is significantly better than the champion.

    margin: the lower bound of the difference in ROC AUC must exceed it. The guard metrics must not be significantly
    worse; those by day count from `MIN_GUARD_DAYS` days on. A forced champion has no proven skill: a version with skill
    replaces it unless it is significantly worse.
    by_approval: a person must approve each promotion.
    """
    comparison = champion.comparison if champion else None
    if not gate.has_skill:
        status: Literal["not enough matured labels", "retained"] = (
            "not enough matured labels" if gate.status == "not enough matured labels" else "retained"
        )
        return PromotionDecision(status=status, summary=gate.summary, comparison=comparison)
    if champion is None:
        return _promotion("There is no champion, and the model has skill", None, by_approval)
    name = f"the champion, version {champion.version}"
    if comparison is None:
        why = f"It cannot be compared with {name} ({champion.incomparable}): a person must decide."
        return PromotionDecision(status="awaiting approval", summary=why)
    if not comparison.metrics:
        why = f"Too few labels have matured to compare it with {name}: {comparison.reason}."
        return PromotionDecision(status="not enough matured labels", summary=why, comparison=comparison)
    auc = next(m for m in comparison.metrics if m.metric == DECISION_METRIC)
    guards = _guards(comparison)
    differences = ", ".join(_difference(m, comparison.reviews_per_day) for m in (auc, *guards))
    evidence = f"{differences}, on the same {comparison.n:,} rows"
    if worse := [_title(m.metric, comparison.reviews_per_day) for m in (auc, *guards) if m.difference.high < 0]:
        why = f"It is significantly worse than {name} in {' and '.join(worse)}: {evidence}."
        return PromotionDecision(status="retained", summary=why, comparison=comparison)
    if champion.forced:
        why = f"It has skill; {name}, was forced without proven skill: {evidence}"
        return _promotion(why, comparison, by_approval)
    if auc.difference.low > margin:
        why = f"It is better than {name}, by more than {margin:g}: {evidence}"
        return _promotion(why, comparison, by_approval)
    return PromotionDecision(
        status="retained",
        summary=f"It is not significantly better than {name}, by more than {margin:g}: {evidence}.",
        comparison=comparison,
    )


def _promotion(summary: str, comparison: Comparison | None, by_approval: bool) -> PromotionDecision:
    if by_approval:
        summary = f"{summary}; it waits for `tamiz models promote`."
        return PromotionDecision(status="awaiting approval", summary=summary, comparison=comparison)
    return PromotionDecision(status="promoted", summary=f"{summary}.", comparison=comparison)


def _guards(comparison: Comparison) -> list[MetricComparison]:
    enough_days = comparison.days >= MIN_GUARD_DAYS
    return [m for m in comparison.metrics if m.metric in GUARD_METRICS and (enough_days or m.metric not in TITLES)]


def _title(metric: str, per_day: int) -> str:
    if metric not in TITLES:
        return METRIC_TITLES[metric]
    title = metric_title(metric, per_day)
    return title[0].lower() + title[1:]


def _difference(m: MetricComparison, per_day: int) -> str:
    d = m.difference
    return f"{_title(m.metric, per_day)} {m.this:.4f} against {m.other:.4f} (difference {d.low:+.4f} to {d.high:+.4f})"


def compare_with_champion(
    settings: Settings, this: MonitoredModel, history: History, week: BacktestWindow, plan: ReviewPlan
) -> tuple[Champion | None, MonitoredModel | None]:
    """Compare a new version with the champion on the backtest's rows. plan: what the team reviews a day.

    Returns the champion with the comparison, and its model; None, None when there is no champion, and no model when it
    cannot be loaded or does not fit the new one's declaration.
    Raises ModelUnavailableError when the registry cannot be reached.
    """
    if (version := version_transitions.champion(settings)) is None:
        return None, None
    try:
        other = registered_model(settings, version)
    except (ModelIncompatibleError, ModelUnavailableError) as error:
        return Champion(version=version, forced=False, comparison=None, incomparable=str(error)), None
    if (why := manifest_mismatch(other.manifest, this.manifest)) is not None:
        return Champion(version=version, forced=False, comparison=None, incomparable=why), None
    comparison = compare(this, other, history, week, plan)
    return Champion(version=version, forced=other.manifest.forced, comparison=comparison), other


def apply_decision(
    settings: Settings,
    version: int,
    promotion_decision: PromotionDecision,
    *,
    force: str | None = None,
    by: str | None = None,
    correlation_id: str | None = None,
    compared_with: int | msgspec.UnsetType | None = msgspec.UNSET,
) -> VersionTransition:
    """Carry out a decision: append the transition to the log and set the aliases.

    force: a person's reason to promote the version regardless of the decision. compared_with: the champion of the
    comparison (None: there was none).
    Raises TransitionRefusedError when `compared_with` is no longer champion, ModelUnavailableError when the registry
    cannot be reached.
    """
    if promotion_decision.status == "promoted" or force is not None:
        reason = promotion_decision.summary if force is None else f"forced: {force}"
        if force is not None:
            compared_with = msgspec.UNSET
        return version_transitions.promote(
            settings,
            version,
            reason,
            evidence=promotion_decision.summary,
            by=by,
            correlation_id=correlation_id,
            compared_with=compared_with,
        )
    change: Literal["awaiting-approval", "retained"] = (
        "awaiting-approval" if promotion_decision.status == "awaiting approval" else "retained"
    )
    return version_transitions.make_challenger(
        settings,
        version,
        change,
        promotion_decision.summary,
        evidence=promotion_decision.status,
        by=by,
        correlation_id=correlation_id,
        compared_with=compared_with,
    )


def promote_if_better(
    settings: Settings,
    this: MonitoredModel,
    gate: GateResult,
    history: History,
    week: BacktestWindow,
    plan: ReviewPlan,
    *,
    force: str | None = None,
    by: str | None = None,
    correlation_id: str | None = None,
) -> tuple[MonitoredModel | None, PromotionDecision, VersionTransition]:
    """Compare a new version with the champion, decide, and carry out the decision.

    A comparison takes minutes; when the champion changes meanwhile, it is repeated with the new champion.
    plan: what the team reviews a day. force, by, correlation_id: as for `training.pipeline.train`.
    Returns the champion's model (None when it was not loaded), the decision and the transition.
    Raises TransitionRefusedError when the champion changes during `MAX_COMPARISONS` comparisons or the retraining
    request is answered already; ModelUnavailableError when the registry cannot be reached.
    """
    for attempt in range(MAX_COMPARISONS):
        champion, other = compare_with_champion(settings, this, history, week, plan)
        promotion_decision = evaluate_challenger(
            gate, champion, margin=settings.promotion_margin, by_approval=settings.promotion == "approval"
        )
        compared_with = champion.version if champion else None
        try:
            transition = apply_decision(
                settings,
                this.version,
                promotion_decision,
                force=force,
                by=by,
                correlation_id=correlation_id,
                compared_with=compared_with,
            )
            return other, promotion_decision, transition
        except TransitionRefusedError:
            if attempt == MAX_COMPARISONS - 1 or version_transitions.champion(settings) == compared_with:
                raise
    raise AssertionError("unreachable")


def promote_manually(
    settings: Settings, version: int, reason: str, *, by: str | None = None, answers: int | None = None
) -> VersionTransition:
    """Promote a registered version that passed the skill gate, on a person's request.

    answers: number of the version's last transition that the person has seen; None for the current last one. The
    promotion also accepts damage of the log.
    Raises ModelUnavailableError when there is no such version, when it failed the skill gate and was not trained with
    `--force`, or when the registry cannot be reached; TransitionRefusedError when another transition came first.
    """
    accepts = version_transitions.log_state(settings).fingerprint
    known = version_transitions.versions(settings)
    champion = next((v.version for v in known if v.status == "champion"), None)
    found = next((v for v in known if v.version == version), None)
    if found is None:
        raise ModelUnavailableError(
            f"{settings.model_name} has no version {version}; `tamiz models list` shows the registered versions"
        )
    # Promoting the champion again is allowed when its alias differs from the log: that repairs the alias.
    if version == champion and version_transitions.registry_inconsistency(settings) is None:
        raise ModelUnavailableError(f"{settings.model_name} version {version} is champion already")
    if found.gate_status != "skill" and found.forced is None:
        raise ModelUnavailableError(
            f"{settings.model_name} version {version} did not pass the skill gate "
            f"({found.gate_status or 'never evaluated'}) and must not decide; to promote it all the same, train it "
            "with `tamiz train FILE --force REASON`"
        )
    evidence = found.tags.get("gate_summary")
    return version_transitions.promote(
        settings,
        version,
        reason,
        evidence=evidence,
        by=by,
        compared_with=champion,
        answers=found.last_number if answers is None else answers,
        accepts=accepts,
    )
