"""Decision records, written from columns: the bytes that msgspec makes of each decision, and their headers."""

from collections import Counter
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.counting.monitored_model import MonitoredModel
from schemas.records import MAX_OFFSET, MAX_TIME_MS, Decision, FeatureRecord, Reason, RuleMatch
from scoring.decision import DECIDERS, OUTCOMES, decision_id, thresholds
from scoring.profiles.profile_plan import ProfilePlan
from scoring.rules.precedence import RowMatches, Ruling
from scoring.scorer import ScoredRows
from stream_app.decisions.decision_records import decision_records
from stream_app.decisions.feature_records import feature_records
from stream_app.output.outgoing_records import OutgoingRecord, OutgoingRecords
from tests.helpers.traffic.profiled_dataset import profiled_dataset

TOPIC_ID = "hT2xNq8vR1iQz5aYb0cDeg"
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=70)
IDS = st.one_of(
    TEXTS, st.sampled_from(["transactions-0-17@hT2xNq8v", "x" * 39, "x" * 40, "é" * 400, '\x00\x1f\x7f\\"'])
)
NULLABLE_BYTES = st.one_of(st.none(), st.binary(max_size=80))
REASONS = st.lists(
    st.builds(
        Reason,
        feature=TEXTS,
        value=st.one_of(st.none(), TEXTS, st.floats(allow_nan=False, allow_infinity=False)),
        contribution=st.floats(allow_nan=False, allow_infinity=False),
        text=TEXTS,
    ),
    max_size=3,
).map(tuple)


N_MATCHES = 3
SHARE = 0.02  # of exploration
MATCHES = st.lists(
    st.builds(
        RuleMatch,
        kind=st.sampled_from(["rule", "list"]),
        name=TEXTS,
        version=st.one_of(st.none(), st.integers(0, 10)),
        effect=st.sampled_from(["block", "allow", "review"]),
        mode=st.sampled_from(["live", "shadow"]),
        reason=TEXTS,
    ),
    min_size=N_MATCHES,
    max_size=N_MATCHES,
)


class DecidedRow(NamedTuple):
    """One transaction and what was decided."""

    partition: int
    offset: int
    key: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    transaction: str
    score: float
    outcome: int
    model_outcome: int
    decider: int
    matches: list[int]  # positions in a table of `N_MATCHES`
    reasons: tuple[Reason, ...]
    time_ms: int
    conflict: int | None
    topic: str = "transactions"
    value: bytes | None = b"{}"


ROWS = st.lists(
    st.builds(
        DecidedRow,
        partition=st.integers(0, 3),
        offset=st.integers(0, MAX_OFFSET),
        key=NULLABLE_BYTES,
        headers=st.lists(
            st.tuples(st.sampled_from(["traceparent", "tracestate", "other"]), NULLABLE_BYTES), max_size=3
        ).map(tuple),
        transaction=IDS,
        score=st.one_of(st.floats(0, 1), st.floats(0, 1, width=32)),
        outcome=st.integers(0, 3),
        model_outcome=st.integers(0, 3),
        decider=st.integers(0, 3),
        matches=st.lists(st.integers(0, N_MATCHES - 1), max_size=3),
        reasons=REASONS,
        time_ms=st.integers(0, MAX_TIME_MS),
        conflict=st.one_of(st.none(), st.integers(0, MAX_OFFSET)),
    ),
    max_size=6,
)


@pytest.fixture(scope="module")
def model(champion_bundle: Path) -> MonitoredModel:
    return MonitoredModel.load(champion_bundle, version=3)


def expected(row: DecidedRow, model: MonitoredModel, table: list[RuleMatch], ruleset: int | None) -> OutgoingRecord:
    decision = Decision(
        decision_id=decision_id(row.transaction),
        transaction_id=row.transaction,
        score=row.score,
        outcome=OUTCOMES[row.outcome],  # type: ignore[arg-type]
        model_outcome=OUTCOMES[row.model_outcome],  # type: ignore[arg-type]
        decided_by=DECIDERS[row.decider],  # type: ignore[arg-type]
        exploration_share=SHARE if DECIDERS[row.decider] == "exploration" else None,
        ruleset=ruleset,
        matches=tuple(table[code] for code in row.matches),
        threshold=thresholds(model.manifest.points)[row.model_outcome],
        reasons=row.reasons if row.model_outcome else (),
        model=model.manifest.model,
        model_version=model.version,
        event_time_ms=row.time_ms,
    )
    headers: list[tuple[str, bytes | None]] = [
        ("ce_specversion", b"1.0"),
        ("ce_source", f"/tamiz/{model.manifest.model}/3".encode()),
        ("ce_type", b"tamiz.decision.v1"),
        ("content-type", b"application/json"),
        ("tamiz-group", b"group"),
        ("tamiz-topic-id", TOPIC_ID.encode()),
        ("ce_id", decision.decision_id.encode()),
        ("ce_time", str(np.datetime_as_string(np.datetime64(row.time_ms, "ms"), timezone="UTC")).encode()),
        ("tamiz-offset", b"%d" % row.offset),
    ]
    for name, size in (("traceparent", 55), ("tracestate", 512)):
        fits = [h for h in row.headers if h[0] == name and h[1] is not None and len(h[1]) <= size]
        headers += fits[:1]
    headers[9:] = sorted(headers[9:], key=row.headers.index)
    if row.conflict is not None:
        headers.append(("tamiz-id-conflict", b"%d" % row.conflict))
    return OutgoingRecord(row.partition, row.key, msgspec.json.encode(decision), headers)


@given(rows=ROWS, table=MATCHES, ruleset=st.one_of(st.none(), st.integers(1, 2**40)))
def test_a_decision_record_has_the_bytes_that_msgspec_makes_and_the_headers_of_its_row(
    model: MonitoredModel, rows: list[DecidedRow], table: list[RuleMatch], ruleset: int | None
) -> None:
    decided = ScoredRows(
        np.zeros((len(rows), 1), np.float32),
        np.array([row.score for row in rows]),
        np.array([row.model_outcome for row in rows], np.intp),
        [row.reasons for row in rows if row.model_outcome],
        Ruling(
            np.array([row.outcome for row in rows], np.intp),
            np.array([row.decider for row in rows], np.intp),
            RowMatches(
                np.array([code for row in rows for code in row.matches], np.intp),
                np.cumsum([len(row.matches) for row in rows], dtype=np.int64),
                table,
            ),
            np.zeros(0, np.intp),
            ruleset=ruleset,
            exploration_share=SHARE,
        ),
    )
    made = decision_records(
        rows,
        [row.transaction for row in rows],
        np.array([row.time_ms for row in rows], np.int64),
        decided,
        model,
        consumer_group="group",
        topic_id=TOPIC_ID,
        truncated_parts=Counter(),
        conflicts={i: row.conflict for i, row in enumerate(rows) if row.conflict is not None},
    )
    assert list(made) == [expected(row, model, table, ruleset) for row in rows]
    assert made == OutgoingRecords.of(made), "encoded one by one, the same bytes"


@given(rows=ROWS, data=st.data())
def test_a_feature_record_has_the_bytes_that_msgspec_makes(
    tmp_path_factory: pytest.TempPathFactory, rows: list[DecidedRow], data: st.DataObject
) -> None:
    plan = ProfilePlan.of(profiled_dataset(tmp_path_factory.getbasetemp()))
    width = data.draw(st.integers(1, 5))
    bits = data.draw(st.lists(st.integers(0, 2**32 - 1), min_size=len(rows) * width, max_size=len(rows) * width))
    values = np.array(bits, np.uint32).view(np.float32).reshape(len(rows), width)
    made = feature_records(
        plan,
        rows,
        [row.transaction for row in rows],
        np.array([row.time_ms for row in rows], np.int64),
        values,
        np.array([row.outcome > 0 for row in rows], bool),
    )
    assert [(r.partition, r.key, r.headers) for r in made] == [(row.partition, row.key, []) for row in rows]
    assert [r.value for r in made] == [
        msgspec.json.encode(
            FeatureRecord(
                transaction_id=row.transaction,
                event_time_ms=row.time_ms,
                input_offset=row.offset,
                profiles=plan.digest,
                complete=row.outcome > 0,
                values=own.astype("<f4").tobytes(),
            )
        )
        for row, own in zip(rows, values, strict=True)
    ]
