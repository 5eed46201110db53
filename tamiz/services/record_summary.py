"""One readable line for each record of each topic, for `tamiz tail`. Pure."""

import math
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple, get_args

import msgspec
from rich.text import Text

from schemas.dataset.declaration import Dataset
from schemas.records import (
    Decision,
    DriftAlert,
    DriftReport,
    FeatureRecord,
    Label,
    ModelEvent,
    PaneSnapshot,
    Redrive,
    RetrainRequest,
)
from schemas.rule_report import MatchCounts, RuleReport
from schemas.rules import ListEntry, Mode, RuleActivation, RulesetRecord
from schemas.security.sanitizer import terminal
from schemas.tile_records import TileRecord
from scoring.decision import reason_texts
from scoring.profiles.feature_log import logged_values
from scoring.profiles.profile_plan import ProfilePlan

COLOURS = {
    "approve": "green",
    "review": "yellow",
    "challenge": "yellow",
    "decline": "red",
    "critical": "red",
    "warning": "yellow",
    "closed": "green",
    "promoted": "green",
    "training-failed": "red",
    "rolled-back": "yellow",
    "awaiting-approval": "yellow",
}
ENTITY_BYTES = 8  # of the hash of an entity
MAX_FEATURES = 3  # of a drift report, the strongest first


class RecordSummary(NamedTuple):
    """Record type and formatter of one topic."""

    record: type
    line: Callable[[Any], Text]


def summarize(role: str, value: bytes | None, dataset: Dataset | None = None) -> Text | None:
    """One line for a record's value; None if the value is not a valid record of its topic.

    role: of the topic, as in `schemas.topics.topic_table`. dataset: names the values of `feature-log`.
    """
    try:
        if role == "transactions":
            fields = msgspec.json.decode(value or b"", type=dict[str, Any])
            return Text(terminal(", ".join(f"{name} {_plain(field)}" for name, field in fields.items())))
        if role == "feature-log":
            return _features(msgspec.json.decode(value or b"", type=FeatureRecord), dataset)
        if role not in SUMMARIES:
            return None
        summary = SUMMARIES[role]
        return summary.line(msgspec.json.decode(value or b"", type=summary.record))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _decision(r: Decision) -> Text:
    return Text.assemble(
        (f"{r.outcome:<10}", f"bold {COLOURS[r.outcome]}"),
        f"{r.score:.4f} {terminal(r.transaction_id)} ",
        _model(r.model, r.model_version),
        (terminal("; ".join(reason_texts(r))), "italic"),
    )


def _features(r: FeatureRecord, dataset: Dataset | None) -> Text:
    start = f"{terminal(r.transaction_id)} of {_time(r.event_time_ms)}: "
    values = None if dataset is None else logged_values(r, ProfilePlan.of(dataset))
    if dataset is None or values is None:
        return Text(
            f"{start}{len(r.values) // 4} values of profiles {terminal(r.profiles)}, which are not those declared"
        )
    names = [f.name for f in dataset.profile_features]
    words = ", ".join(f"{name} {_number(x)}" for name, x in zip(names, values.tolist(), strict=True))
    return Text.assemble(start, terminal(words), ("" if r.complete else "; incomplete", "yellow"))


def _label(r: Label) -> Text:
    word = {
        True: Text("fraud", "bold red"),
        False: Text("no fraud", "bold green"),
        None: Text("not certain to be fraud or not", "bold yellow"),
    }[r.fraud]
    by = f" by {terminal(r.by)}" if r.by else ""
    return Text.assemble(f"{terminal(r.transaction_id)} is ", word, f", reported {_time(r.reported_at_ms)}{by}")


def _redrive(r: Redrive) -> Text:
    return Text(
        f"{terminal(r.transaction_id)} was sent back from {terminal(r.dead_letter)} at {_time(r.redriven_at_ms)}; "
        f"it was consumed at {terminal(r.consumed_from)}"
    )


def _pane(r: PaneSnapshot) -> Text:
    rows = sum(pane.rows for pane in r.panes)
    kind = "open minutes" if r.open else "closed minutes"
    return Text.assemble(
        _model(r.model, r.model_version),
        f"partition {r.partition}: {len(r.panes)} {kind} with {rows:,} transactions, up to offset {r.last_offset}, "
        f"watermark {_time(r.watermark_ms)}, {r.late:,} late",
    )


def _report(r: DriftReport) -> Text:
    exceeding = sorted(
        (
            (f.feature, w.window, f.psi or 0.0, f.psi_lower_bound or 0.0)
            for w in r.windows
            for f in w.features
            if f.exceeds
        ),
        key=lambda found: (-found[3], found[0]),
    )
    drifted: dict[str, str] = {}
    for feature, window, psi, _ in exceeding:
        drifted.setdefault(feature, f"{feature} PSI {psi:.3f} within {window}")
    words = "; ".join(list(drifted.values())[:MAX_FEATURES]) or "no feature exceeds its tolerance"
    more = f"; {len(drifted) - MAX_FEATURES} more" if len(drifted) > MAX_FEATURES else ""
    return Text.assemble(
        _model(r.model, r.model_version),
        f"up to {_time(r.until_ms)}: ",
        (terminal(words + more), "bold red" if drifted else ""),
        f"; open incidents {len(r.incidents)}, late {r.late:,}, lost {r.lost:,}",
    )


def _alert(r: DriftAlert) -> Text:
    colour = COLOURS["closed" if r.change == "closed" else r.severity]
    line = Text.assemble(
        (f"{r.severity} {r.kind} incident {r.change}", f"bold {colour}"),
        f" at {_time(r.happened_at_ms)} ",
        _model(r.model, r.model_version),
        terminal(r.summary),
    )
    if r.cards:
        line.append(terminal(f" (cards {', '.join(r.cards)})"))
    if r.examples:
        line.append(terminal(f" (for example {', '.join(r.examples)})"), "dim")
    return line


def _request(r: RetrainRequest) -> Text:
    return Text.assemble(
        ("retraining requested ", "bold"),
        _model(r.model, r.model_version),
        terminal(f"{r.cause}: {r.reason} (by {r.by or 'the monitor'}; "),
        terminal(f"transactions from {_time(r.from_ms)} to {_time(r.until_ms)}; {r.correlation_id})"),
    )


def _event(r: ModelEvent) -> Text:
    return Text.assemble(
        (f"{r.change} ", f"bold {COLOURS.get(r.change, '')}".strip()),
        _model(r.model, r.model_version),
        terminal(f"{r.reason} (by {r.by}, {_time(r.happened_at_ms)})"),
    )


def _tiles(r: TileRecord) -> Text:
    return Text.assemble(
        f"profile {r.profile + 1}: {len(r.entities) // ENTITY_BYTES} entities until {_time(r.until_ms)}",
        ("" if r.last else ", more to follow", "dim"),
    )


def _ruleset(r: RulesetRecord) -> Text:
    by_mode = Counter(rule.mode for rule in r.content.rules)
    modes = ", ".join(f"{by_mode[mode]} {mode}" for mode in get_args(Mode) if by_mode[mode]) or "no rules"
    approves = "" if r.proposal is None else f", approves {r.proposal}"
    return Text.assemble(
        (f"{r.change} ", "bold"),
        terminal(f"ruleset {r.number}: {modes}{approves}; {r.reason} (by {r.by}, {_time(r.at_ms)})"),
    )


def _list_entry(r: ListEntry) -> Text:
    snoozed = "" if r.rule is None else f" {r.rule}"
    until = "" if r.until_ms is None else f" until {_time(r.until_ms)}"
    return Text.assemble(
        ("removed " if r.removed else "added ", "bold"),
        terminal(f"{r.field} {r.value}: list {r.list}, {r.effect or 'no effect'}{snoozed}{until}; "),
        terminal(f"{r.reason} (by {r.by}, {_time(r.at_ms)})"),
    )


def _activation(r: RuleActivation) -> Text:
    number = "no ruleset" if r.ruleset is None else f"ruleset {r.ruleset}"
    return Text(
        f"from offset {r.from_offset}: {number}; rules before offset {r.rules_offset}, "
        f"lists before offset {r.lists_offset}"
    )


def _rule_report(r: RuleReport) -> Text:
    ranked = sorted(r.rules, key=lambda c: (c.problem is None, not c.in_force, -c.matches))
    rules = "; ".join(map(_rule_counts, ranked[:MAX_FEATURES])) or "no matches"
    more = f"; {len(ranked) - MAX_FEATURES} more" if len(ranked) > MAX_FEATURES else ""
    return Text.assemble(_model(r.model, r.model_version), f"up to {_time(r.until_ms)}: ", terminal(rules + more))


def _rule_counts(c: MatchCounts) -> str:
    version = "" if c.version is None else f" v{c.version}"
    precision = "" if c.precision is None else f", precision {c.precision.value:.0%} of {c.labels.rows:,}"
    problem = "" if c.problem is None else f", {c.problem}"
    return f"{c.kind} {c.name}{version} ({c.mode}) {c.matches:,} matches{precision}{problem}"


SUMMARIES = {
    "decisions": RecordSummary(Decision, _decision),
    "labels": RecordSummary(Label, _label),
    "redrives": RecordSummary(Redrive, _redrive),
    "profile-tiles": RecordSummary(TileRecord, _tiles),
    "rules": RecordSummary(RulesetRecord, _ruleset),
    "lists": RecordSummary(ListEntry, _list_entry),
    "rule-activations": RecordSummary(RuleActivation, _activation),
    "rule-statistics": RecordSummary(RuleReport, _rule_report),
    "drift-panes": RecordSummary(PaneSnapshot, _pane),
    "drift-reports": RecordSummary(DriftReport, _report),
    "drift-alerts": RecordSummary(DriftAlert, _alert),
    "retrain-requests": RecordSummary(RetrainRequest, _request),
    "model-events": RecordSummary(ModelEvent, _event),
}


def _model(name: str, version: int | None) -> tuple[str, str]:
    return terminal(name if version is None else f"{name} v{version}") + " ", "dim"


def _number(value: float) -> str:
    return "missing" if math.isnan(value) else f"{value:.7g}"


def _plain(field: object) -> str:
    return field if isinstance(field, str) else msgspec.json.encode(field).decode()


def _time(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms // 1000, UTC):%Y-%m-%d %H:%M}"  # records bound their times
