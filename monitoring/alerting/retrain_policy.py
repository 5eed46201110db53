"""Retraining policy: when drift or poor performance causes a retrain request.

A shifted population or a worse model is a reason to retrain. A data incident is not, because the model would learn
values of a broken pipeline; nor is a suspected attack, where a person must decide first.
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
    """Thresholds of a retrain request."""

    psi: float = 0.1  # minimum lower bound of the PSI in `window`
    important: float = 0.05  # minimum importance of a feature that counts
    important_features: int = 2  # minimum number of such features; the score alone is enough
    sustained_ms: int = 6 * HOUR_MS  # minimum duration without interruption
    cool_off_ms: int = 7 * DAY_MS  # minimum time between two requests
    window: str = "24 h"
    days: int = 90  # days of transactions to train on


@dataclass(frozen=True, kw_only=True)
class RetrainState:
    """State of the fold."""

    drifting_since_ms: int | None = None
    last_request_ms: int | None = None


def evaluate_policy(
    state: RetrainState,
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
    """Apply one evaluation; returns the next state, and a request or None.

    evidence: of the 24 h window; incidents: the open ones; performance_alarm: from final labels, or None;
    suspected_attack: few cards raised the alert rate and the upper tail of the scores. now_ms: end of the last closed
    minute, event time.
    """
    policy = policy or RetrainPolicy()
    moved = [e for e in evidence if e.psi_lower_bound >= policy.psi]
    important = [e.feature for e in moved if e.feature != score and e.importance >= policy.important]
    by_score = any(e.feature == score for e in moved)
    drifting = by_score or len(important) >= policy.important_features
    since = (state.drifting_since_ms if state.drifting_since_ms is not None else now_ms) if drifting else None
    state = RetrainState(drifting_since_ms=since, last_request_ms=state.last_request_ms)
    cooling_off = state.last_request_ms is not None and now_ms - state.last_request_ms < policy.cool_off_ms
    if cooling_off or suspected_attack or any(i.kind == "data" for i in incidents):
        return state, None
    sustained = since is not None and now_ms - since >= policy.sustained_ms
    if performance_alarm is None and not sustained:
        return state, None
    cause: Literal["performance", "score-drift", "input-drift"]
    if performance_alarm is not None:
        cause, reason = "performance", performance_alarm
    else:
        cause = "score-drift" if by_score else "input-drift"
        reason = "; ".join(f"{e.feature}: PSI at least {e.psi_lower_bound:.3f} over {e.window}" for e in moved)
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
