"""A burst from few cards: one incident that names the cause, no training, and no real shift is hidden.

hour     0        24     24:20            28
traffic  stationary_traffic     burst  |  stationary_traffic, or shifted
"""

from dataclasses import replace

import pytest

from monitoring.alerting.incidents import AlertPolicy
from schemas.time_units import HOUR_MS, MINUTE_MS
from tests.helpers.traffic.pane_traffic import CARDS, POLICY, START_MS, Stream, stationary_traffic, with_burst

BURST_MS = START_MS + 12 * HOUR_MS
END_MS = START_MS + 18 * HOUR_MS


@pytest.mark.parametrize(("cards", "minutes", "share"), [(1, 20, 0.3), (3, 60, 0.2)])
def test_a_burst_from_few_cards_is_one_incident_that_names_them(cards: int, minutes: int, share: float) -> None:
    stream = Stream(
        with_burst(stationary_traffic(0.75), BURST_MS, minutes=minutes, share=share, cards=cards),
        policy=replace(POLICY, alerts=AlertPolicy(clear_after_ms=2 * HOUR_MS)),
    )
    stream.live(START_MS, END_MS)
    ((kind, _, at),) = stream.opened
    assert kind == "burst"
    assert BURST_MS < at < BURST_MS + minutes * MINUTE_MS
    alert = next(a for e in stream.found for a in e.alerts)
    assert alert.severity == "warning"
    assert alert.summary.startswith(f"{cards} card{'s' if cards > 1 else ''} sent ")
    assert {int(card) for card in alert.cards} == {CARDS + i for i in range(cards)}
    assert [e.request for e in stream.found if e.request is not None] == []
    assert [change for change, *_ in stream.alerts] == ["opened", "closed"]


@pytest.mark.parametrize("after_minutes", [0, 30])
def test_a_real_shift_beside_or_after_a_burst_is_found(after_minutes: int) -> None:
    shift = BURST_MS + after_minutes * MINUTE_MS
    stream = Stream(with_burst(stationary_traffic(0.75, shift_ms=shift), BURST_MS))
    stream.live(START_MS, END_MS)
    kinds = {kind: features for kind, features, _ in stream.opened}
    assert kinds.keys() == {"burst", "shift"}
    assert kinds["shift"] == ("x10",)
    (at,) = (at for kind, _, at in stream.opened if kind == "shift")
    assert at < shift + 4 * HOUR_MS


def test_a_merchant_that_is_always_busy_is_no_burst() -> None:
    stream = Stream(with_burst(stationary_traffic(0.4), START_MS, minutes=576, share=0.1))
    stream.live(START_MS, START_MS + 9 * HOUR_MS)
    assert "burst" not in {kind for kind, _, _ in stream.opened}
