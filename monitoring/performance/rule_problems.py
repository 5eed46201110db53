"""Problems of rules, as incidents: the precision of a live rule fell, or a rule matches nothing for 30 days."""

from collections.abc import Iterable
from datetime import UTC, datetime

from monitoring.performance.rule_counts import FIRST_LABELS, MatchCounter
from schemas.records import DriftAlert
from schemas.rule_report import Estimate, RuleProblem
from schemas.time_units import DAY_MS

NO_MATCH_DAYS = 30  # of event time


def rule_alerts(
    counters: Iterable[MatchCounter], until_ms: int, *, model: str, model_version: int
) -> tuple[DriftAlert, ...]:
    """Alerts of the problems that begin or end at an event time. Updates the counters' problems."""
    alerts: list[DriftAlert] = []
    for counter in counters:
        problem = _problem(counter, until_ms)
        if problem == counter.problem:
            continue
        if counter.problem is not None:
            ended = _ended(counter)
            alerts.append(_alert(counter, "closed", ended, until_ms, model=model, model_version=model_version))
        counter.problem = problem
        counter.problem_since_ms = until_ms if problem else None
        counter.incident_id = f"rule-{_name(counter, '-')}-{problem}-{until_ms}" if problem else None
        if problem is not None:
            begun = _begun(counter, problem)
            alerts.append(_alert(counter, "opened", begun, until_ms, model=model, model_version=model_version))
    return tuple(alerts)


def _problem(counter: MatchCounter, until_ms: int) -> RuleProblem | None:
    if not counter.in_force or counter.key.kind != "rule":
        return None
    if until_ms - min(until_ms, max(counter.since_ms, counter.last_match_ms or 0)) >= NO_MATCH_DAYS * DAY_MS:
        return "no-matches"
    return "precision-fell" if counter.key.mode == "live" and counter.precision_fell() else None


def _begun(counter: MatchCounter, problem: RuleProblem) -> str:
    if problem == "no-matches":
        last = counter.last_match_ms
        when = "it never matched" if last is None else f"its last match was on {_day(last)}"
        return f"rule {_name(counter)} ({counter.key.mode}) matches nothing for {NO_MATCH_DAYS} days; {when}"
    return (
        f"rule {_name(counter)} ({counter.effect}): precision of its latest matches is "
        f"{_share(counter.recent.estimate)}, but that of its first {FIRST_LABELS} labelled ones was "
        f"{_share(counter.first.estimate)}"
    )


def _ended(counter: MatchCounter) -> str:
    if not counter.in_force:
        return f"rule {_name(counter)} is no longer in force"
    if counter.problem == "no-matches":
        return f"rule {_name(counter)} matches again"
    return f"rule {_name(counter)}: precision of its latest matches is {_share(counter.recent.estimate)} again"


def _alert(
    counter: MatchCounter, change: str, summary: str, until_ms: int, *, model: str, model_version: int
) -> DriftAlert:
    assert counter.incident_id is not None
    assert counter.problem_since_ms is not None
    return DriftAlert(
        incident_id=counter.incident_id,
        change=change,  # type: ignore[arg-type]
        kind="rule",
        severity="warning",
        model=model,
        model_version=model_version,
        features=(),
        summary=summary,
        opened_at_ms=counter.problem_since_ms,
        happened_at_ms=until_ms,
        evidence=(),
        examples=(),
    )


def _name(counter: MatchCounter, mark: str = " v") -> str:
    return f"{counter.key.name}{mark}{counter.key.version}"


def _share(estimate: Estimate | None) -> str:
    assert estimate is not None
    return f"{estimate.value:.0%} ({estimate.low:.0%} to {estimate.high:.0%})"


def _day(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).date().isoformat()
