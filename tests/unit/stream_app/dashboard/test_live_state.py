"""The dashboard's live state: late, repeated and invalid records, bounded size, and access control."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.counting.monitored_model import MonitoredModel
from monitoring.drift.drift_monitor import DriftEvaluation
from monitoring.drift.reference import DriftReference, load_reference
from schemas.configuration.settings import Settings
from schemas.records import Decision, DriftAlert, ModelEvent, Outcome, PaneSnapshot, Reason
from stream_app.dashboard.live_state import (
    HISTORY_S,
    MAX_AHEAD_S,
    MAX_CODES,
    MAX_DECISION_IDS,
    MAX_RECENT,
    MAX_VERSIONS,
    LiveState,
)
from stream_app.dashboard.psi_heatmap import MAX_COLUMNS, PsiHeatmap
from tests.helpers.traffic.drift_simulation import ROWS_PER_DAY, records_of, simulate_monitoring, traffic
from training.registry.mlflow_registry import download_bundle

NOW_MS = 1_000_000_000_000


def decision(n: int, outcome: Outcome = "approve", **changes: object) -> Decision:
    base = Decision(
        decision_id=f"d{n}",
        transaction_id=f"t{n}",
        score=0.25,
        outcome=outcome,
        model_outcome=outcome,
        decided_by="model",
        exploration_share=None,
        ruleset=None,
        threshold=0.0,
        reasons=(Reason(feature="monto", value=9.0, contribution=1.0, text="monto 9"),) if outcome != "approve" else (),
        model="m",
        model_version=1,
        event_time_ms=0,
    )
    return msgspec.structs.replace(base, **changes)


def alert(change: str, happened_at_ms: int, severity: str = "warning", name: str = "i") -> DriftAlert:
    base = msgspec.convert(
        {
            "incident_id": "i",
            "change": change,
            "kind": "shift",
            "severity": severity,
            "model": "m",
            "model_version": 1,
            "features": ["monto"],
            "summary": f"monto {change}",
            "opened_at_ms": 1,
            "happened_at_ms": happened_at_ms,
            "evidence": [],
            "examples": [],
        },
        DriftAlert,
    )
    return msgspec.structs.replace(base, incident_id=name)


#  second   -181        -180 ............ -1   now ..... +60   +61
#           too late     |---- in the rate ----------------|   ahead of every clock
def test_only_recent_decisions_count_in_the_rate() -> None:
    feed = LiveState("m")
    for n, second in enumerate([-HISTORY_S - 1, -HISTORY_S, -1, -1, MAX_AHEAD_S, MAX_AHEAD_S + 1]):
        feed.update_decision(decision(n), NOW_MS + 1000 * second, NOW_MS)
    seconds = feed.seconds(NOW_MS)
    assert len(seconds.at_ms) == HISTORY_S
    assert (seconds.decisions[0], seconds.decisions[-1], sum(seconds.decisions)) == (1, 2, 3)
    assert len(feed.recent) == 6, "late ones were decided all the same"


def test_a_decision_that_a_crash_repeated_counts_once_and_another_models_not_at_all() -> None:
    feed = LiveState("m")
    for each in (decision(1), decision(1, model_version=2), decision(2, model="other"), decision(3, "decline")):
        feed.update_decision(each, NOW_MS - 1000, NOW_MS)
    assert dict(feed.outcomes()) == {"approve": 1, "decline": 1}
    assert [r.transaction_id for r in feed.recent] == ["t1", "t3"]
    assert [r.reasons for r in feed.recent] == [(), ("monto 9",)]


def test_a_score_that_is_no_probability_is_count_skipped() -> None:
    feed = LiveState("m")
    for n, score in enumerate((-0.1, 1.1, float("inf"))):
        feed.update_decision(decision(n, score=score), NOW_MS, NOW_MS)
    assert (feed.skipped_records, feed.recent) == (3, ())


def test_few_flagged_decisions_stay_visible_among_approvals() -> None:
    feed = LiveState("m")
    feed.update_decision(decision(0, "review"), NOW_MS - 9000, NOW_MS)
    for n in range(1, 200):
        feed.update_decision(decision(n), NOW_MS, NOW_MS)
    assert len(feed.recent) == MAX_RECENT + 1
    assert feed.recent[-1].outcome == "review"


@given(st.lists(st.tuples(st.integers(-(2**40), 2**45), st.text(max_size=3)), max_size=300))
def test_the_state_is_bounded_for_any_clocks_and_codes(records: list[tuple[int, str]]) -> None:
    feed = LiveState("m")
    for n, (at_ms, code) in enumerate(records):
        feed.update_decision(decision(n), at_ms, NOW_MS)
        feed.update_dead_letter(code, NOW_MS, NOW_MS)
        feed.update_latency(5.0, at_ms, NOW_MS)
    assert len(feed.codes()) <= MAX_CODES + 1
    assert feed.codes().total() == len(records)
    assert len(feed._seconds) <= HISTORY_S + MAX_AHEAD_S + 1


def test_the_state_is_bounded_for_any_texts_and_numbers() -> None:
    feed = LiveState("m")
    long = "\x1b" * 10_000
    for n in range(30_000):
        at_ms = NOW_MS - 1000 * (n % HISTORY_S)
        feed.update_dead_letter(f"code-{n}-{long}", at_ms, NOW_MS)
        if n % 10 == 0:
            odd = decision(n, "review", model_version=n, transaction_id=long, decision_id=f"{n}{long}")
            feed.update_decision(odd, at_ms, NOW_MS)
    for n in range(200):
        feed.update_alert(
            msgspec.structs.replace(alert("opened", n, name=f"{n}{long}"), features=(long,) * 50, summary=long)
        )
        feed.update_model_event(
            ModelEvent(
                model="m",
                model_version=n,
                change="promoted",
                reason=long,
                by=long,
                happened_at_ms=n,
                correlation_id=long,
            )
        )
    state = (feed.codes(), feed.versions(), feed.recent, feed.incidents, feed.events, feed.seconds(NOW_MS))
    assert len(msgspec.json.encode(state)) < 400_000
    assert len(feed.codes()) <= MAX_CODES + 1
    assert feed.codes().total() == 30_000
    assert len(feed.versions()) <= MAX_VERSIONS


def test_ids_are_forgotten_in_the_order_they_came() -> None:
    feed = LiveState("m")
    for n in range(MAX_DECISION_IDS + 10):
        feed.update_decision(decision(n), NOW_MS, NOW_MS)
    assert len(feed._seen) == MAX_DECISION_IDS
    assert "d9" not in feed._seen
    assert "d10" in feed._seen


def test_an_incident_is_open_until_it_closes_and_old_news_of_it_changes_nothing() -> None:
    feed = LiveState("m")
    for each in (alert("opened", 5), alert("grew", 9, "critical"), alert("opened", 5), alert("opened", 7, name="j")):
        feed.update_alert(each)
    assert [(i.incident_id, i.summary) for i in feed.incidents] == [("i", "monto grew"), ("j", "monto opened")]
    feed.update_alert(alert("closed", 20))
    feed.update_alert(alert("grew", 9, "critical"))
    assert [i.incident_id for i in feed.incidents] == ["j"]


def test_a_repeated_model_event_is_listed_once_newest_first() -> None:
    feed = LiveState("m")
    events = [
        ModelEvent(model=model, model_version=v, change="promoted", reason="r", by="b", happened_at_ms=at)
        for model, v, at in [("m", 2, 20), ("m", 1, 10), ("m", 2, 20), ("other", 3, 30)]
    ]
    for event in events:
        feed.update_model_event(event)
    assert [(e.model_version, e.happened_at_ms) for e in feed.events] == [(2, 20), (1, 10)]


def test_unread_decisions_are_in_the_rate_and_reported() -> None:
    feed = LiveState("m")
    feed.update_unread(50_000, NOW_MS)
    assert feed.unread_decisions == 50_000
    assert sum(feed.seconds(NOW_MS + 1000).decisions) == 50_000


Champion = tuple[MonitoredModel, DriftReference]


@pytest.fixture(scope="module")
def champion(simulated_registry: Settings, tmp_path_factory: pytest.TempPathFactory) -> Champion:
    folder = download_bundle(simulated_registry, 1, tmp_path_factory.mktemp("bundle"))
    return MonitoredModel.load(folder, 1), load_reference(folder)


@pytest.fixture(scope="module")
def shift(champion: Champion) -> tuple[list[DriftEvaluation], list[PaneSnapshot]]:
    """A day and a half, the last day of other amounts: its evaluations and its panes."""
    snapshots: list[PaneSnapshot] = []
    records = records_of(traffic("mean-shift", days=5))[-3 * ROWS_PER_DAY // 2 :]
    return simulate_monitoring(records, *champion, on_snapshot=snapshots.append), snapshots


def test_scores_are_held_against_the_references_bins(champion: Champion) -> None:
    bins = next(f for f in champion[1].bins.features if f.name == "score")
    feed = LiveState("m")
    assert feed.scores(bins) is None
    for n in range(100):
        feed.update_decision(decision(n, score=0.999), NOW_MS, NOW_MS)
    shown = feed.scores(bins)
    assert shown is not None
    assert shown.current[-2] == 1.0, "the last but MISSING"
    assert sum(shown.reference) == pytest.approx(1)


def test_the_distributions_on_the_page_are_those_that_the_alert_went_out_with(
    champion: Champion, shift: tuple[list[DriftEvaluation], list[PaneSnapshot]]
) -> None:
    evaluations, snapshots = shift
    alerting = next(e for e in evaluations if any("monto" in a.features for a in e.alerts))
    evidence = next(e for a in alerting.alerts for e in a.evidence if e.feature == "monto")
    heat = PsiHeatmap("m")
    for snapshot in [*snapshots, *snapshots[:50]]:
        heat.update_panes(snapshot)
    for evaluation in evaluations[: evaluations.index(alerting) + 1]:
        heat.update_report(evaluation.report)
    shown = heat.feature("monto", evidence.window, {1: champion[1]})
    assert shown is not None
    assert shown.histogram.labels == evidence.labels
    assert shown.histogram.reference == pytest.approx(evidence.reference)
    assert shown.histogram.current == pytest.approx(evidence.current)
    assert (shown.psi, shown.tolerance) == (pytest.approx(evidence.psi), pytest.approx(evidence.tolerance))


def test_the_map_keeps_the_last_evaluation_of_each_stretch_however_often_it_is_read(
    champion: Champion, shift: tuple[list[DriftEvaluation], list[PaneSnapshot]]
) -> None:
    reports = [e.report for e in shift[0]]
    heat, again = PsiHeatmap("m"), PsiHeatmap("m")
    for report in reports:
        heat.update_report(report)
    for report in [*reports, *reports[::7], msgspec.structs.replace(reports[-1], model="other", until_ms=10**14)]:
        again.update_report(report)
    for window in ("1 h", "24 h"):
        map_ = heat.map(window, {1: champion[1]})
        assert map_ == again.map(window, {1: champion[1]})
        assert list(map_.until_ms) == sorted(set(map_.until_ms))
        assert len(map_.until_ms) <= MAX_COLUMNS
        assert map_.until_ms[-1] == reports[-1].until_ms
        assert {len(row.psi) for row in map_.rows} == {len(map_.until_ms)}
    monto = next(row for row in heat.map("24 h", {1: champion[1]}).rows if row.feature == "monto")
    assert monto.exceeds[-1]
    assert not monto.exceeds[0]
    assert monto.tolerance == pytest.approx(0.02)
    with pytest.raises(KeyError):
        heat.map("a month", {})


def test_without_a_reference_the_map_still_shows_and_the_distributions_do_not(
    shift: tuple[list[DriftEvaluation], list[PaneSnapshot]],
) -> None:
    heat = PsiHeatmap("m")
    assert heat.feature("monto", "24 h", {}) is None
    for evaluation in shift[0]:
        heat.update_report(evaluation.report)
    assert {row.tolerance for row in heat.map("24 h", {}).rows} == {None}
    assert heat.feature("monto", "24 h", {}) is None
