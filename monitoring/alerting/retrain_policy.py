"""Whether to train again: a policy that mostly says no.

Retraining answers a population that moved, or a model that got worse. It never answers a broken pipeline, whose values
would be learnt; and where the inputs of a few cards and the alert rate rise together, people are asked first.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from monitoring.alerting.incidents import Incident
from monitoring.drift.evidence import FeatureEvidence
from schemas.records import RetrainRequest
from schemas.time_units import DAY_MS, HOUR_MS


@dataclass(frozen=True, kw_only=True)
class RetrainPolicy:
    """When drift is worth a training."""

    psi: float = 0.1  # lower bound over 24 h
    important: float = 0.05  # importance from which a feature counts
    important_features: int = 2  # so many of them, or the score alone
    sustained_ms: int = 6 * HOUR_MS  # for how long without a break
    cool_off_ms: int = 7 * DAY_MS  # at most one request in so long
    window: str = "24 h"
    days: int = 90  # of transactions that a training is asked to read


@dataclass(frozen=True, kw_only=True)
class RetrainState:
    """The fold's state."""

    drifting_since_ms: int | None = None
    last_request_ms: int | None = None


def evaluate_policy(
    watch: RetrainState,
    evidence: Sequence[FeatureEvidence],
    incidents: Sequence[Incident],
    now_ms: int,
    *,
    model: str,
    model_version: int,
    performance_alarm: str | None = None,
    suspected_attack: bool = False,
    policy: RetrainPolicy | None = None,
    score: str = "score",
) -> tuple[RetrainState, RetrainRequest | None]:
    """Take in one evaluation: the next watch, and a request or None.

    evidence: of the 24 h window; incidents: the open ones; performance_alarm: what matured labels say, or None;
    suspected_attack: alert rate and the score's tail are up by few cards. Time is the closed minutes' own.
    """
    policy = policy or RetrainPolicy()
    moved = [e for e in evidence if e.lower_bound >= policy.psi]
    loud = [e.feature for e in moved if e.feature != score and e.importance >= policy.important]
    by_score = any(e.feature == score for e in moved)
    drifting = by_score or len(loud) >= policy.important_features
    since = (watch.drifting_since_ms if watch.drifting_since_ms is not None else now_ms) if drifting else None
    watch = RetrainState(drifting_since_ms=since, last_request_ms=watch.last_request_ms)
    resting = watch.last_request_ms is not None and now_ms - watch.last_request_ms < policy.cool_off_ms
    if resting or suspected_attack or any(i.kind == "data" for i in incidents):
        return watch, None
    sustained = since is not None and now_ms - since >= policy.sustained_ms
    if performance_alarm is None and not sustained:
        return watch, None
    cause: Literal["performance", "score-drift", "input-drift"]
    if performance_alarm is not None:
        cause, reason = "performance", performance_alarm
    else:
        cause = "score-drift" if by_score else "input-drift"
        reason = "; ".join(f"{e.feature}: PSI surely above {e.lower_bound:.3f} over {e.window}" for e in moved)
    request = RetrainRequest(
        correlation_id=f"{model}-{cause}-{now_ms}",
        model=model,
        model_version=model_version,
        cause=cause,
        features=tuple(e.feature for e in moved),
        reason=reason,
        from_ms=now_ms - policy.days * DAY_MS,
        until_ms=now_ms,
        requested_at_ms=now_ms,
    )
    return RetrainState(drifting_since_ms=since, last_request_ms=now_ms), request
