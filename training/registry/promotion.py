"""No promotion without proof: a new version against the skill gate, and against the champion on the same rows."""

from typing import Literal

import msgspec

from monitoring.counting.monitored_model import MonitoredModel
from schemas.configuration.settings import Settings
from schemas.errors import ModelIncompatibleError, ModelUnavailableError
from schemas.promotion_log import VersionTransition
from training.data.history import History
from training.evaluation.backtest import BacktestWindow
from training.evaluation.skill_gate import GateResult
from training.evaluation.version_comparison import Comparison, MetricComparison, compare
from training.registry import version_transitions
from training.registry.model_loader import registered_model
from training.registry.version_transitions import TransitionRefusedError

DECIDED_BY = "roc_auc"
GUARDED_BY = "average_precision"
COMPARISONS = 3  # with a champion that changes meanwhile
WORDS = {"roc_auc": "ROC AUC", "average_precision": "average precision"}


class PromotionDecision(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of a new version, and why."""

    status: Literal["promoted", "retained", "not enough matured labels", "awaiting approval"]
    summary: str  # for people
    comparison: Comparison | None = None  # with the champion on the backtest's rows; None: there was nothing to compare


class Champion(msgspec.Struct, frozen=True, kw_only=True):
    """Who decides while a new version is judged."""

    version: int
    forced: bool  # it has shown no skill and decides by a person's word
    comparison: Comparison | None  # of the new version (this) with it (other)
    incomparable: str | None = None  # why there is none


def evaluate_challenger(
    verdict: GateResult, champion: Champion | None, *, margin: float = 0.0, by_approval: bool = False
) -> PromotionDecision:
    """Let the new version decide if it has shown skill and is provably better than the champion by the margin.

    margin: that the lower bound of the difference in ROC AUC must exceed. Average precision must not be provably worse.
    A champion that was forced has no skill to defend: it gives way to one that has, unless that is provably worse.
    by_approval: a person has the last word on what would be promoted.
    """
    compared = champion.comparison if champion else None
    if not verdict.passed:
        unripe: Literal["not enough matured labels", "retained"] = (
            "retained" if verdict.status == "no skill" else "not enough matured labels"
        )
        return PromotionDecision(status=unripe, summary=verdict.summary, comparison=compared)
    if champion is None:
        return _won("There is no champion, and skill is shown", None, by_approval)
    name = f"the champion, version {champion.version}"
    if compared is None:
        why = f"It cannot be compared with {name} ({champion.incomparable}): a person must decide."
        return PromotionDecision(status="awaiting approval", summary=why)
    if not compared.metrics:
        few = f"Too few labels have matured to compare it with {name}: {compared.reason}."
        return PromotionDecision(status="not enough matured labels", summary=few, comparison=compared)
    auc, ap = (_of(compared, metric) for metric in (DECIDED_BY, GUARDED_BY))
    told = f"{_told(auc)}, {_told(ap)}, on the same {compared.n:,} rows"
    if ap.difference.high < 0 or auc.difference.high < 0:
        return PromotionDecision(
            status="retained", summary=f"It is provably worse than {name}: {told}.", comparison=compared
        )
    if champion.forced:
        return _won(f"It has shown skill, which {name}, never did: {told}", compared, by_approval)
    if auc.difference.low > margin:
        return _won(f"It is better than {name}, by more than {margin:g}: {told}", compared, by_approval)
    return PromotionDecision(
        status="retained",
        summary=f"It is not provably better than {name}, by more than {margin:g}: {told}.",
        comparison=compared,
    )


def _won(summary: str, comparison: Comparison | None, by_approval: bool) -> PromotionDecision:
    if by_approval:
        waits = f"{summary}; it waits for `tamiz models promote`."
        return PromotionDecision(status="awaiting approval", summary=waits, comparison=comparison)
    return PromotionDecision(status="promoted", summary=f"{summary}.", comparison=comparison)


def _of(comparison: Comparison, metric: str) -> MetricComparison:
    return next(m for m in comparison.metrics if m.metric == metric)


def _told(m: MetricComparison) -> str:
    d = m.difference
    return f"{WORDS[m.metric]} {m.this:.4f} against {m.other:.4f} (difference {d.low:+.4f} to {d.high:+.4f})"


def compare_with_champion(
    settings: Settings, this: MonitoredModel, history: History, week: BacktestWindow
) -> tuple[Champion | None, MonitoredModel | None]:
    """The champion as it compares with a new version on the backtest's rows, and its model where it could be loaded.

    Raises ModelUnavailableError when the registry cannot be reached.
    """
    if (version := version_transitions.champion(settings)) is None:
        return None, None
    try:
        other = registered_model(settings, version)
    except (ModelIncompatibleError, ModelUnavailableError) as error:
        return Champion(version=version, forced=False, comparison=None, incomparable=str(error)), None
    if other.manifest.dataset != this.manifest.dataset:
        why = f"it reads the data set {other.manifest.dataset!r}"
        return Champion(version=version, forced=False, comparison=None, incomparable=why), None
    compared = compare(this, other, history, week)
    return Champion(version=version, forced=other.manifest.forced, comparison=compared), other


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
    """Move the version as judged, and write it down. force: a person's reason to promote whatever was judged.

    compared_with: the champion that was judged against; TransitionRefusedError when it is champion no more.
    Raises ModelUnavailableError when the registry cannot be reached.
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
    return version_transitions.challenge(
        settings,
        version,
        change,
        promotion_decision.summary,
        evidence=promotion_decision.status,
        by=by,
        correlation_id=correlation_id,
        compared_with=compared_with,
    )


def compete(
    settings: Settings,
    this: MonitoredModel,
    verdict: GateResult,
    history: History,
    week: BacktestWindow,
    *,
    force: str | None = None,
    by: str | None = None,
    correlation_id: str | None = None,
) -> tuple[MonitoredModel | None, PromotionDecision, VersionTransition]:
    """Compare a new version with the champion and carry out what comes of it; the champion's model, if it was loaded.

    A comparison takes minutes, and the champion may change meanwhile: then it is made again, with the new one.
    Raises TransitionRefusedError when the champion changes again and again, or the loop is answered already;
    ModelUnavailableError when the registry cannot be reached.
    """
    for attempt in range(COMPARISONS):
        champion, other = compare_with_champion(settings, this, history, week)
        promotion_decision = evaluate_challenger(
            verdict, champion, margin=settings.promotion_margin, by_approval=settings.promotion == "approval"
        )
        against = champion.version if champion else None
        try:
            move = apply_decision(
                settings,
                this.version,
                promotion_decision,
                force=force,
                by=by,
                correlation_id=correlation_id,
                compared_with=against,
            )
            return other, promotion_decision, move
        except TransitionRefusedError:
            if attempt == COMPARISONS - 1 or version_transitions.champion(settings) == against:
                raise
    raise AssertionError("unreachable")


def promote_by_hand(
    settings: Settings, version: int, reason: str, *, by: str | None = None, answers: int | None = None
) -> VersionTransition:
    """A person's promotion of a registered version that has shown skill.

    answers: number of the move that the person has seen as the version's last; None: what is the last now. Damages of
    the history are accepted with it.

    Raises ModelUnavailableError when there is no such version, when it has shown no skill and was not trained with a
    reason to decide without, or when the registry cannot be reached; TransitionRefusedError when somebody was a moment
    earlier.
    """
    accepts = version_transitions.version_status(settings).fingerprint
    known = version_transitions.versions(settings)
    champion = next((v.version for v in known if v.status == "champion"), None)
    found = next((v for v in known if v.version == version), None)
    if found is None:
        raise ModelUnavailableError(
            f"{settings.model_name} has no version {version}; `tamiz models list` names those there are"
        )
    # Where the alias differs, to promote the champion again is how a person sets it right.
    if version == champion and version_transitions.alias_disagreement(settings) is None:
        raise ModelUnavailableError(f"{settings.model_name} version {version} is champion already")
    if found.verdict != "skill" and found.forced is None:
        raise ModelUnavailableError(
            f"{settings.model_name} version {version} has not shown skill ({found.verdict or 'it was never judged'}) "
            f"and "
            "may not decide; `tamiz train FILE --force REASON` registers one that does all the same, and says so"
        )
    evidence = found.tags.get("verdict_summary")
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
