"""Each topic's records are printed as one readable line."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from schemas.configuration.settings import load
from schemas.records import (
    DriftAlert,
    DriftReport,
    DriftStatistics,
    DriftWindow,
    FeatureRecord,
    Label,
    ModelEvent,
    PaneCounts,
    PaneSnapshot,
    Redrive,
    RetrainRequest,
)
from schemas.rule_report import Estimate, LabelWeights, MatchCounts, RuleReport
from schemas.rules import ListEntry, Rule, RuleActivation, RulesetRecord, RulesFile
from schemas.topics import topic_table
from tamiz.services.record_summary import SUMMARIES, summarize
from tests.helpers.traffic.profiled_dataset import profiled_dataset

NOON_MS = 1_577_880_000_000  # 2020-01-01 12:00

LABEL = Label(transaction_id="t-1", fraud=True, reported_at_ms=NOON_MS)
REDRIVE = Redrive(
    transaction_id="t-1", dead_letter="dead-letters-0-3@abc", consumed_from="transactions-0-9", redriven_at_ms=NOON_MS
)
PANE = PaneCounts(start_ms=NOON_MS, rows=600, first_offset=0, last_offset=599, codes=b"", counts=b"")
PANES = PaneSnapshot(
    model="card",
    model_version=3,
    layout="l",
    partition=2,
    last_offset=1_199,
    watermark_ms=NOON_MS,
    late=4,
    open=False,
    panes=(PANE, PANE),
)
STILL = DriftStatistics(
    feature="hour", rows=900, psi=0.01, psi_corrected=0.0, psi_decile=0.01, psi_lower_bound=0.0, kl=0.0, js=0.0,
    ks=0.01, ks_p_value=0.9, enough_rows=True, exceeds=False,
)  # fmt: skip
MOVED = msgspec.structs.replace(STILL, feature="monto", psi=0.25, psi_lower_bound=0.2, exceeds=True)
REPORT = DriftReport(
    model="card",
    model_version=3,
    until_ms=NOON_MS,
    late=1,
    lost=0,
    windows=(
        DriftWindow(window="15 m", rows=900, features=(STILL, msgspec.structs.replace(MOVED, psi_lower_bound=0.1))),
        DriftWindow(window="24 h", rows=900, features=(STILL, MOVED)),
    ),
    incidents=("card-3-monto-0",),
    suspected_attack=False,
)
ALERT = DriftAlert(
    incident_id="card-3-monto-0",
    change="opened",
    kind="shift",
    severity="critical",
    model="card",
    model_version=3,
    features=("monto",),
    summary="monto moved",
    opened_at_ms=NOON_MS,
    happened_at_ms=NOON_MS,
    evidence=(),
    examples=("t-1", "t-2"),
)
ATTACK = msgspec.structs.replace(ALERT, kind="attack", summary="few cards", cards=("c-1", "c-2"), examples=("t-1",))
REQUEST = RetrainRequest(
    correlation_id="c-1",
    model="card",
    model_version=3,
    cause="input-drift",
    features=("monto",),
    reason="monto moved",
    from_ms=NOON_MS - 86_400_000,
    until_ms=NOON_MS,
    requested_at_ms=NOON_MS,
)
EVENT = ModelEvent(
    model="card", model_version=4, change="promoted", reason="AUC .91 over .88", by="ana", happened_at_ms=NOON_MS
)

RULES = [
    Rule(id=f"r{i}", version=1, when="score > 0.5", effect="review", reason="", mode=mode)
    for i, mode in enumerate(("live", "shadow", "live"))
]
RULESET = RulesetRecord(
    number=4, change="activated", content=RulesFile(rules=tuple(RULES)), by="os:ana", at_ms=NOON_MS, reason="burst",
    proposal=3,
)  # fmt: skip
SNOOZE = ListEntry(
    list="vip", field="ID_USER", value="u-1", effect="snooze", rule="r1", reason="trip", by="web:bo", at_ms=NOON_MS,
    until_ms=NOON_MS + 3_600_000,
)  # fmt: skip
ACTIVATION = RuleActivation(
    from_offset=700, topic_id="t", group="tamiz", ruleset=4, rules_offset=5, rules_topic_id="r", lists_offset=9,
    lists_topic_id="l",
)  # fmt: skip


NIGHT = MatchCounts(
    kind="rule", name="night", version=2, mode="live", effect="review", in_force=True, since_ms=NOON_MS,
    last_match_ms=NOON_MS, matches=40, by_model=1, alone=30, declined=0, frauds_alone=0, legitimate_alone=0,
    precision=Estimate(value=0.5, low=0.2, high=0.8), first_precision=None, recent_precision=None, overlaps={},
    problem="precision-fell", problem_since_ms=NOON_MS, incident_id="i", labels=LabelWeights(rows=10, frauds=5.0),
    first_labels=LabelWeights(), recent_labels=LabelWeights(),
)  # fmt: skip
CARDS = msgspec.structs.replace(NIGHT, kind="list", name="cards", version=None, matches=3, precision=None, problem=None)
STATISTICS = RuleReport(
    model="card", model_version=3, until_ms=NOON_MS, ruleset=4, decisions={"0": 9}, labels={}, rules=(CARDS, NIGHT)
)


@pytest.mark.parametrize(
    ("role", "record", "line"),
    [
        ("transactions", {"ID_USER": 7, "monto": "950,00", "ok": None}, "ID_USER 7, monto 950,00, ok null"),
        ("labels", LABEL, "t-1 is fraud, reported 2020-01-01 12:00"),
        (
            "labels",
            msgspec.structs.replace(LABEL, fraud=None, by="web:ana"),
            "t-1 is not certain to be fraud or not, reported 2020-01-01 12:00 by web:ana",
        ),
        (
            "redrives",
            REDRIVE,
            "t-1 was sent back from dead-letters-0-3@abc at 2020-01-01 12:00; it was consumed at transactions-0-9",
        ),
        (
            "drift-panes",
            PANES,
            "card v3 partition 2: 2 closed minutes with 1,200 transactions, up to offset 1199, watermark 2020-01-01 "
            "12:00, 4 late",
        ),
        (
            "drift-reports",
            REPORT,
            "card v3 up to 2020-01-01 12:00: monto PSI 0.250 within 24 h; open incidents 1, late 1, lost 0",
        ),
        (
            "drift-alerts",
            ALERT,
            "critical shift incident opened at 2020-01-01 12:00 card v3 monto moved (for example t-1, t-2)",
        ),
        (
            "drift-alerts",
            ATTACK,
            "critical attack incident opened at 2020-01-01 12:00 card v3 few cards (cards c-1, c-2) (for example t-1)",
        ),
        (
            "retrain-requests",
            REQUEST,
            "retraining requested card v3 input-drift: monto moved (by the monitor; transactions from 2019-12-31 12:00 "
            "to 2020-01-01 12:00; c-1)",
        ),
        ("rules", RULESET, "activated ruleset 4: 2 live, 1 shadow, approves 3; burst (by os:ana, 2020-01-01 12:00)"),
        (
            "lists",
            SNOOZE,
            "added ID_USER u-1: list vip, snooze r1 until 2020-01-01 13:00; trip (by web:bo, 2020-01-01 12:00)",
        ),
        ("rule-activations", ACTIVATION, "from offset 700: ruleset 4; rules before offset 5, lists before offset 9"),
        (
            "rule-statistics",
            STATISTICS,
            "card v3 up to 2020-01-01 12:00: rule night v2 (live) 40 matches, precision 50% of 10, precision-fell; "
            "list cards (live) 3 matches",
        ),
        ("model-events", EVENT, "promoted card v4 AUC .91 over .88 (by ana, 2020-01-01 12:00)"),
    ],
    ids=lambda value: value if isinstance(value, str) and " " not in value else "",
)
def test_a_record_is_one_readable_line(role: str, record: object, line: str) -> None:
    found = summarize(role, msgspec.json.encode(record))
    assert found is not None
    assert found.plain == line


def test_values_of_the_feature_log_have_their_names(tmp_path: Path) -> None:
    dataset = profiled_dataset(
        tmp_path, '[[profiles]]\nentity = "ID_USER"\nwindows = ["1h"]\nfeatures = ["count", "mean(monto)"]'
    )
    values = np.array([3, np.nan], dtype="<f4").tobytes()
    record = FeatureRecord(
        transaction_id="t-1", event_time_ms=NOON_MS, input_offset=9, profiles=dataset.profiles_digest, complete=False,
        values=values,
    )  # fmt: skip
    line = summarize("feature-log", msgspec.json.encode(record), dataset)
    other = summarize("feature-log", msgspec.json.encode(msgspec.structs.replace(record, profiles="p")), dataset)
    assert line is not None
    assert other is not None
    assert line.plain == "t-1 of 2020-01-01 12:00: id_user_count_1h 3, id_user_mean_monto_1h missing; incomplete"
    assert other.plain == "t-1 of 2020-01-01 12:00: 2 values of profiles p, which are not those declared"


def test_every_topic_with_json_records_has_a_summary() -> None:
    # A producer's fields, values that the declaration names, and a reason in headers.
    own = {"transactions", "feature-log", "dead-letters"}
    assert set(SUMMARIES) == {t.role for t in topic_table(load({}))} - own


@pytest.mark.parametrize("role", ["transactions", "feature-log", *SUMMARIES])
@pytest.mark.parametrize("value", [None, b"", b"{", b"[1]", b'{"model":1}', b'{"a":' * 2_000])
def test_a_value_that_does_not_belong_to_its_topic_has_no_summary(role: str, value: bytes | None) -> None:
    found = summarize(role, value)
    assert found is None or role == "transactions"


def test_a_record_without_optional_fields_has_a_summary() -> None:
    bare = msgspec.structs.replace(MOVED, psi=None, psi_lower_bound=None)
    report = msgspec.structs.replace(REPORT, windows=(DriftWindow(window="1 h", rows=0, features=(bare,)),))
    found = summarize("drift-reports", msgspec.json.encode(report))
    assert found is not None
    assert "monto PSI 0.000 within 1 h" in found.plain


def test_text_of_a_record_cannot_control_the_terminal() -> None:
    alert = msgspec.structs.replace(ALERT, summary="a\x1b[2Jb\nc", model="m\r", examples=("\u202e",))
    found = summarize("drift-alerts", msgspec.json.encode(alert))
    assert found is not None
    assert found.plain.isprintable()
