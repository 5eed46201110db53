"""Incidents: one per cause, opened once, closed when it ends, and distinct from broken pipelines.

Times are hours; bounds and tolerances are PSI.
"""

import msgspec
import numpy as np
import pytest

from monitoring.alerting.incidents import (
    AlertPolicy,
    Change,
    FewCards,
    IncidentState,
    correlated_groups,
    update_incidents,
)
from monitoring.counting.bins import FrozenBins, number_bins, share_bins
from monitoring.drift.baseline import estimate_baseline
from monitoring.drift.detector import DetectorPolicy, window_statistics
from monitoring.drift.evidence import FeatureEvidence, collect_evidence
from schemas.records import MAX_ALERT_CARDS
from schemas.time_units import HOUR_MS

BURST = FewCards(kind="burst", active=True, summary="few cards", cards=(b"shop",))
GROUPS = {"monto": "monto", "cashback": "monto", "hour": "hour"}


def evidence(
    feature: str = "monto",
    *,
    alarmed: bool = False,
    bound: float = 0.0,
    psi: float | None = None,
    current: tuple[float, ...] = (0.2, 0.79, 0.01),
    labels: tuple[str, ...] = ("(-inf, 100)", "[100, inf)", "missing"),
    reference: tuple[float, ...] = (0.5, 0.49, 0.01),
    category: bool = False,
    importance: float = 0.1,
    sustained_psi: float = 0.0,
) -> FeatureEvidence:
    return FeatureEvidence(
        feature=feature,
        alarmed=alarmed,
        window="1 h",
        psi=bound * 1.5 if psi is None else psi,
        psi_lower_bound=bound,
        tolerance=0.02,
        reference=reference,
        current=current,
        labels=labels,
        category=category,
        importance=importance,
        sustained_psi=sustained_psi,
    )


LOUD = {"alarmed": True, "bound": 0.1}


def judged(*evaluations: tuple[float, list[FeatureEvidence]], policy: AlertPolicy | None = None) -> list[list[Change]]:
    """What each evaluation changes; evaluations: hour and evidence."""
    book, found = IncidentState(), []
    for hour, seen in evaluations:
        book, changes = update_incidents(book, seen, round(hour * HOUR_MS), GROUPS, policy)
        found.append(list(changes))
    return found


def told(changes: list[list[Change]]) -> list[list[str]]:
    return [[f"{c.change} {c.incident.incident_id}: {'+'.join(c.incident.features)}" for c in one] for one in changes]


#  hour     0      1      2      7      8
#  bound   .1     .1     0      0      0
#         opened        (quiet for six hours) closed
def test_an_incident_opens_once_and_closes_after_a_full_quiet_window() -> None:
    found = judged(
        (0, [evidence(**LOUD)]), (1, [evidence(**LOUD)]), (2, [evidence()]), (7, [evidence()]), (8, [evidence()])
    )
    assert told(found) == [["opened 1: monto"], [], [], [], ["closed 1: monto"]]
    closed = found[-1][0].incident
    assert (closed.opened_at_ms, closed.closed_at_ms) == (0, 8 * HOUR_MS)


def test_a_bound_or_what_stands_at_half_the_tolerance_keeps_it_open() -> None:
    found = judged(
        (0, [evidence(**LOUD)]),
        (1, [evidence()]),
        (6, [evidence(bound=0.01)]),
        (7, [evidence()]),
        (12, [evidence(sustained_psi=0.01)]),
        (13, [evidence()]),
        (18, [evidence()]),
    )
    assert told(found)[1:] == [[], [], [], [], [], []]


def test_a_feature_is_silent_for_its_cooldown_and_may_speak_again_after_it() -> None:
    policy = AlertPolicy(clear_after_ms=HOUR_MS)
    quiet = [(hour, [evidence()]) for hour in (1, 2, 3)]
    found = judged((0, [evidence(**LOUD)]), *quiet, (4, [evidence(**LOUD)]), (24, [evidence(**LOUD)]), policy=policy)
    assert told(found) == [["opened 1: monto"], [], ["closed 1: monto"], [], [], ["opened 2: monto"]]


def test_features_that_move_together_are_one_incident() -> None:
    found = judged((0, [evidence("cashback", **LOUD), evidence("monto", alarmed=True, bound=0.2)]))
    assert told(found) == [["opened 1: monto+cashback"]]
    assert found[0][0].incident.summary.endswith("; cashback moved with it")


def test_a_companion_that_follows_later_joins_the_incident() -> None:
    found = judged(
        (0, [evidence(**LOUD), evidence("cashback")]),
        (1, [evidence(**LOUD), evidence("cashback", alarmed=True, bound=0.05)]),
    )
    assert told(found) == [["opened 1: monto"], ["grew 1: monto+cashback"]]


def test_features_apart_are_incidents_apart() -> None:
    found = judged((0, [evidence(**LOUD), evidence("hour", **LOUD)]))
    assert told(found) == [["opened 1: monto", "opened 2: hour"]]


@pytest.mark.parametrize(
    ("seen", "kind"),
    [
        (evidence(**LOUD), "shift"),
        (evidence(**LOUD, current=(0.45, 0.44, 0.11)), "data"),
        (evidence(**LOUD, current=(0.5, 0.5, 0.0), reference=(0.45, 0.45, 0.1)), "shift"),
        (
            evidence(
                **LOUD,
                labels=("a", "b", "other", "missing"),
                category=True,
                reference=(0.6, 0.4, 0, 0.0),
                current=(1, 0, 0, 0.0),
            ),
            "shift",
        ),
        (
            evidence(
                **LOUD,
                labels=("a", "b", "other", "missing"),
                category=True,
                reference=(0.6, 0.38, 0.01, 0.01),
                current=(0.97, 0.01, 0.01, 0.01),
            ),
            "data",
        ),
        (
            evidence(
                **LOUD,
                labels=("a", "b", "other", "missing"),
                category=True,
                reference=(0.6, 0.38, 0.01, 0.01),
                current=(0.5, 0.29, 0.2, 0.01),
            ),
            "data",
        ),
    ],
    ids=["population", "missing values", "fewer missing", "no shares to compare", "vanished category", "new category"],
)
def test_a_broken_pipeline_is_told_from_a_population_that_moved(seen: FeatureEvidence, kind: str) -> None:
    incident = judged((0, [seen]))[0][0].incident
    assert incident.kind == kind
    assert ("check the data pipeline" in incident.summary) == (kind == "data")


def test_the_sentence_says_what_moved_where_and_how_surely() -> None:
    incident = judged((0, [evidence(**LOUD)]))[0][0].incident
    assert incident.summary == (
        "monto moved: [100, inf) went from 49.0% to 79.0% within 1 h (PSI 0.150, lower bound 0.100)"
    )


@pytest.mark.parametrize(("bound", "severity"), [(0.1, "warning"), (0.25, "critical")])
def test_severity_follows_the_bound(bound: float, severity: str) -> None:
    assert judged((0, [evidence(alarmed=True, bound=bound)]))[0][0].incident.severity == severity


def test_the_louder_and_the_more_important_stands_first() -> None:
    found = judged((0, [evidence("cashback", **LOUD, importance=0.0), evidence("monto", **LOUD, importance=0.4)]))
    assert found[0][0].incident.features == ("monto", "cashback")


def test_correlated_features_are_companions_through_each_other() -> None:
    correlation = np.array([[1, 0.7, 0, 0], [0.7, 1, -0.65, 0], [0, -0.65, 1, np.nan], [0, 0, np.nan, 1]])
    assert correlated_groups(["a", "b", "c", "d"], correlation) == {"a": "a", "b": "a", "c": "a", "d": "d"}


def test_evidence_is_gathered_from_the_loudest_window_with_shares_to_draw() -> None:
    rng = np.random.default_rng(3)
    bins = FrozenBins([number_bins("monto", rng.normal(size=20_000)), share_bins("alert", 19_000, 1000)])
    baseline = estimate_baseline(bins.reference[None], np.zeros(1, dtype=np.int64))
    policy = DetectorPolicy()
    usual, moved = (
        bins.count(bins.encode({"monto": rng.normal(mean, 1, 3000), "alert": rng.random(3000) < 0.05}))[0]
        for mean in (0, 1)
    )
    counts = np.stack([usual, usual, moved, usual, np.zeros_like(usual)])
    by_hour = np.zeros((5, 168), dtype=np.int64)
    by_hour[:4, 9] = 3000
    statistics = window_statistics(bins, counts, by_hour, baseline, policy)
    expected, tolerances, nobody = (
        baseline.expected_counts(by_hour),
        policy.tolerances(baseline),
        np.zeros(2, dtype=bool),
    )
    found = collect_evidence(bins, statistics, counts, expected, tolerances, np.array([0.3, 0.0]), nobody)
    assert [(e.feature, e.window, e.alarmed) for e in found[:1]] == [("monto", "6 h", True)]
    assert not found[1].alarmed
    assert sum(found[0].current) == pytest.approx(1)
    assert len(found[0].labels) == len(found[0].reference) == len(found[0].current)
    assert found[0].contributions.sum() == pytest.approx(found[0].psi, rel=0.05)
    day = collect_evidence(
        bins, statistics, counts, expected, tolerances, np.zeros(2), np.array([False, True]), window="24 h"
    )
    assert [(e.window, e.alarmed) for e in day] == [("24 h", True)] * 2
    assert collect_evidence(bins, statistics, counts, expected, tolerances, np.zeros(2), nobody, window="7 d") == []


def test_an_attack_grows_when_further_cards_join_it_and_names_them_with_the_first_ones() -> None:
    def attack(*cards: bytes) -> FewCards:
        return FewCards(kind="attack", active=True, summary="few cards", cards=cards)

    state, found = IncidentState(), []
    many = tuple(b"%d" % i for i in range(100))
    for hour, few in enumerate(
        [BURST, attack(b"a"), attack(b"a"), attack(b"b", b"a"), BURST, attack(*many), attack(*many)]
    ):
        seen = [msgspec.structs.replace(evidence("score", alarmed=True, bound=0.1), few_cards=True)]
        state, changes = update_incidents(state, seen, hour * HOUR_MS, GROUPS, None, few)
        found.append([(c.change, c.incident.cards) for c in changes])
    of_all = (b"a", b"b", *many[: MAX_ALERT_CARDS - 2])
    assert found == [
        [("opened", (b"shop",))],
        [("grew", (b"a",))],
        [],
        [("grew", (b"a", b"b"))],
        [],
        [("grew", of_all)],
        [],
    ]
