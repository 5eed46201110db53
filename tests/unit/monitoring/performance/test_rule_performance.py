"""Live statistics of rules: what matched, what labels showed, which problems begin and end, also over restarts."""

from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.performance.rule_counts import FIRST_LABELS
from monitoring.performance.rule_performance import RuleEvaluation, RulePerformance, RulePolicy
from schemas.records import Decision, DriftAlert, Label, Outcome, RuleMatch
from schemas.rule_report import LabelWeights, MatchCounts, RuleReport
from schemas.rules import Rule, RulesetRecord, RulesFile
from schemas.time_units import DAY_MS, HOUR_MS
from stream_app.kafka.plausibility import implausibility

START_MS = 1_800_000_000_000
DELAY_MS = 2 * DAY_MS
POLICY = RulePolicy(maturity_ms=DELAY_MS)


def match(name: str = "night", *, mode: Any = "live", effect: Any = "review", version: int | None = 3) -> RuleMatch:
    return RuleMatch(
        kind="list" if version is None else "rule", name=name, version=version, effect=effect, mode=mode, reason=""
    )


def ruleset(number: int, *rules: RuleMatch) -> RulesetRecord:
    content = RulesFile(
        rules=tuple(
            Rule(id=m.name, version=m.version or 1, when="score > 1", effect=m.effect, reason="", mode=m.mode)
            for m in rules
        ),
    )
    return RulesetRecord(number=number, change="activated", content=content, by="os:ana", at_ms=0, reason="")


@dataclass
class RuleTraffic:
    """Decisions and labels, each with the next offset of partition 0."""

    rules: RulePerformance
    sent: list[Decision | Label] = field(default_factory=list)
    offsets: list[int] = field(default_factory=lambda: [0, 0])  # of decisions and labels
    now_ms: int = START_MS

    def decide(
        self, *matches: RuleMatch, outcome: Outcome = "review", model: Outcome = "approve", **more: Any
    ) -> Decision:
        decision = Decision(
            decision_id="",
            transaction_id=f"t{self.offsets[0]}",
            score=0.1,
            outcome=outcome,
            model_outcome=model,
            decided_by=more.pop("decided_by", "rule"),
            exploration_share=more.pop("exploration_share", None),
            ruleset=more.pop("ruleset", 1),
            matches=matches,
            threshold=0.0,
            model="m",
            model_version=7,
            event_time_ms=more.pop("at_ms", self.now_ms),
        )
        self._send(decision)
        return decision

    def label(self, decision: Decision, fraud: bool | None) -> None:
        self._send(Label(transaction_id=decision.transaction_id, fraud=fraud, reported_at_ms=self.now_ms))

    def _send(self, record: Decision | Label) -> None:
        self.sent.append(record)
        feed(self.rules, record, self.offsets)

    def after(self, span_ms: int) -> RuleEvaluation | None:
        self.now_ms += span_ms
        return self.rules.evaluate(self.now_ms)


def feed(rules: RulePerformance, record: Decision | Label, offsets: list[int]) -> None:
    if isinstance(record, Decision):
        rules.add_decision(record, 0, offsets[0])
        offsets[0] += 1
    else:
        rules.add_label(record, 0, offsets[1])
        offsets[1] += 1


@pytest.fixture
def traffic() -> RuleTraffic:
    return RuleTraffic(RulePerformance("m", POLICY))


def counts_of(found: RuleEvaluation | RuleReport | None, name: str = "night", mode: str = "live") -> MatchCounts:
    assert found is not None
    report = found.report if isinstance(found, RuleEvaluation) else found
    (counts,) = (c for c in report.rules if (c.name, c.mode) == (name, mode))
    return counts


def test_matches_are_counted_by_mode_with_their_overlap(traffic: RuleTraffic) -> None:
    blocked = match("cards", version=None, effect="block")
    traffic.decide(match(), match("abroad"))
    traffic.decide(match(), model="review")
    traffic.decide(match(), match("trial", mode="shadow"))
    traffic.decide(blocked, match(), outcome="decline", decided_by="list")
    traffic.decide()
    found = traffic.after(HOUR_MS)
    night = counts_of(found)
    assert (night.matches, night.by_model, night.alone, night.declined) == (4, 1, 1, 1)
    assert night.overlaps == {"abroad": 1, "trial": 1, "cards": 1}
    assert night.last_match_ms == START_MS
    trial = counts_of(found, "trial", "shadow")
    assert (trial.matches, trial.alone) == (1, 0), "a live rule matched the same transaction"
    assert counts_of(found, "cards").matches == 1
    assert traffic.after(HOUR_MS) is None, "nothing new"


def test_a_label_counts_once_it_is_final_and_if_it_is_honest(traffic: RuleTraffic) -> None:
    seen = [traffic.decide(match(), outcome=outcome) for outcome in ("review", "review", "review", "decline")]
    for decision, fraud in zip(seen, (True, False, None, True), strict=True):
        traffic.label(decision, fraud)
    assert counts_of(traffic.after(HOUR_MS)).precision is None
    found = counts_of(traffic.after(DELAY_MS))
    assert found.precision is not None
    assert (found.labels.rows, found.precision.value) == (2, 0.5)
    assert (found.frauds_alone, found.legitimate_alone) == (1, 1)


def test_explored_declines_represent_those_that_were_declined(traffic: RuleTraffic) -> None:
    traffic.label(traffic.decide(match(), decided_by="exploration", exploration_share=0.1), True)
    traffic.label(traffic.decide(match()), False)
    found = counts_of(traffic.after(DELAY_MS + HOUR_MS))
    assert found.precision is not None
    assert found.precision.value == pytest.approx(10 / 11)


def test_after_a_restart_an_early_label_counts_for_a_decision_that_arrives_late(traffic: RuleTraffic) -> None:
    late = traffic.decide(match(), at_ms=START_MS - 9 * DAY_MS)
    traffic.rules = RulePerformance("m", POLICY)
    traffic.label(late, True)
    traffic.rules.add_decision(msgspec.structs.replace(late, transaction_id="other"), 0, 0)
    found = traffic.after(HOUR_MS)
    assert found is not None
    traffic.rules = RulePerformance("m", POLICY, found.report)
    traffic.rules.add_label(traffic.sent[-1], 0, 0)  # type: ignore[arg-type]
    traffic.rules.add_decision(late, 0, 1)
    assert counts_of(traffic.after(HOUR_MS)).labels.rows == 1


def test_offsets_of_a_topic_that_was_made_anew_are_not_used(traffic: RuleTraffic) -> None:
    traffic.decide(match())
    found = traffic.after(HOUR_MS)
    assert found is not None
    again = RuleTraffic(RulePerformance("m", POLICY, found.report), now_ms=traffic.now_ms)
    again.rules.limit_offset(True, 0, 0)
    again.rules.limit_offset(False, 0, 0)
    again.decide(match())
    assert counts_of(again.after(HOUR_MS)).matches == 2


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"problem": "no-matches"}, id="a problem without an incident"),
        pytest.param({"recent_labels": LabelWeights(frauds=1e30)}, id="weights without squares"),
        pytest.param({"labels": LabelWeights(legitimate_squares=1.0)}, id="squares without weights"),
    ],
)
def test_a_report_from_which_no_monitor_can_continue_is_not_read(traffic: RuleTraffic, changes: Any) -> None:
    traffic.decide(match())
    found = traffic.after(HOUR_MS)
    assert found is not None
    forged = msgspec.structs.replace(found.report.rules[0], **changes)
    assert implausibility(msgspec.structs.replace(found.report, rules=(forged,)), 2**60) is not None


def many(traffic: RuleTraffic, n: int, share: float, mode: Any = "live") -> list[DriftAlert]:
    for i in range(n):
        traffic.label(traffic.decide(match(mode=mode)), int((i + 1) * share) > int(i * share))
    found = traffic.after(DELAY_MS + HOUR_MS)
    return list(found.alerts) if found else []


def test_a_live_rule_whose_precision_falls_opens_an_incident_that_closes_when_it_recovers(traffic: RuleTraffic) -> None:
    traffic.rules.add_ruleset(ruleset(1, match()))
    assert many(traffic, FIRST_LABELS, 0.6) == []
    assert many(traffic, 100, 0.55) == [], "within the interval"
    (opened,) = many(traffic, 100, 0.1)
    assert (opened.change, opened.kind, opened.severity) == ("opened", "rule", "warning")
    assert opened.summary.startswith("rule night v3 (review): precision of its latest matches is ")
    assert opened.summary.endswith("but that of its first 50 labelled ones was 60% (46% to 72%)")
    assert counts_of(traffic.rules.report()).problem == "precision-fell"
    assert many(traffic, 50, 0.1) == [], "once"
    (closed,) = many(traffic, 200, 0.6)
    assert (closed.change, closed.incident_id, closed.opened_at_ms) == (
        "closed",
        opened.incident_id,
        opened.opened_at_ms,
    )


def test_the_precision_of_a_shadow_rule_is_no_incident(traffic: RuleTraffic) -> None:
    traffic.rules.add_ruleset(ruleset(1, match(mode="shadow")))
    assert many(traffic, FIRST_LABELS, 0.6, "shadow") == many(traffic, 100, 0.1, "shadow") == []


def test_a_rule_that_matches_nothing_for_30_days_opens_an_incident_until_it_matches_or_is_withdrawn(
    traffic: RuleTraffic,
) -> None:
    traffic.rules.add_ruleset(ruleset(1, match(), match("abroad", mode="shadow"), match("old", mode="off")))
    traffic.rules.add_ruleset(ruleset(2, match()))
    traffic.decide(match())
    traffic.after(HOUR_MS)
    traffic.decide()
    found = traffic.after(30 * DAY_MS)
    assert found is not None
    assert sorted(a.summary for a in found.alerts) == [
        "rule abroad v3 (shadow) matches nothing for 30 days; it never matched",
        "rule night v3 (live) matches nothing for 30 days; its last match was on 2027-01-15",
    ]
    traffic.decide(match(), ruleset=2)
    found = traffic.after(HOUR_MS)
    assert found is not None
    assert sorted((a.change, a.summary) for a in found.alerts) == [
        ("closed", "rule abroad v3 is no longer in force"),
        ("closed", "rule night v3 matches again"),
    ]
    assert [c.name for c in found.report.rules if c.in_force] == ["night"]


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["decide", "label", "wait"]),
        st.integers(0, 5),
        st.booleans(),
        st.sampled_from([HOUR_MS, DAY_MS, 3 * DAY_MS, 31 * DAY_MS]),
    ),
    max_size=60,
)
MATCHES = (
    (match(),),
    (match(), match("trial", mode="shadow")),
    (match("cards", version=None, effect="block"),),
    (match("trial", mode="shadow"),),
    (),
    (match("abroad", effect="decline"), match()),
)


@settings(max_examples=150, deadline=None)
@given(events=EVENTS, restarts=st.sets(st.integers(0, 60)))
def test_after_any_restarts_the_statistics_are_those_of_a_monitor_that_never_stopped(
    events: list[tuple[str, int, bool, int]], restarts: set[int]
) -> None:
    """A restart reads the last report, then all records again."""
    rulesets = [ruleset(1, *MATCHES[1], *MATCHES[5])]
    whole, parts = RuleTraffic(RulePerformance("m", POLICY)), RuleTraffic(RulePerformance("m", POLICY))
    published: RuleReport | None = None
    for traffic in (whole, parts):
        for each in rulesets:
            traffic.rules.add_ruleset(each)
    alerts: list[list[DriftAlert]] = [[], []]
    for step, (what, choice, flag, span_ms) in enumerate(events):
        if step in restarts:
            parts.rules = RulePerformance("m", POLICY, published and roundtrip(published))
            offsets = [0, 0]
            for record in [*rulesets, *parts.sent]:
                if isinstance(record, RulesetRecord):
                    parts.rules.add_ruleset(record)
                else:
                    feed(parts.rules, record, offsets)
        for n, traffic in enumerate((whole, parts)):
            if what == "decide":
                traffic.decide(*MATCHES[choice], outcome="decline" if flag else "review")
            elif what == "label" and (decided := [d for d in traffic.sent if isinstance(d, Decision)]):
                traffic.label(decided[choice * len(decided) // 6], flag)
            elif what == "wait" and (found := traffic.after(span_ms)) is not None:
                alerts[n] += found.alerts
                if n == 1:
                    published = found.report
    assert final(parts) == final(whole)
    assert alerts[1] == alerts[0]


def final(traffic: RuleTraffic) -> Any:
    traffic.after(100 * DAY_MS)
    return msgspec.to_builtins(traffic.rules.report())


def roundtrip(report: RuleReport) -> RuleReport:
    assert implausibility(report, report.until_ms) is None
    return msgspec.json.decode(msgspec.json.encode(report), type=RuleReport)
