"""The handler: every record becomes exactly one decision or dead letter, in order."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest

from monitoring.counting.monitored_model import MonitoredModel
from monitoring.counting.panes import NO_TIME_MS
from schemas.configuration.settings import Settings, load
from schemas.dataset.declaration import load_dataset
from schemas.record_parts import OmittedHeaders, TruncatedBytes, Unreadable
from schemas.records import Decision, FeatureRecord
from scoring.decision import decision_id
from scoring.input.cleaning import clean_payloads
from scoring.profiles.partition_profiles import PartitionProfiles
from scoring.profiles.profile_fold import ProfileFold
from stream_app.decisions import dead_letters, handler
from stream_app.decisions.handler import HandlerPolicy, HandlerState, ProfileStateError, handle, handle_with_isolation
from stream_app.decisions.id_conflicts import CONFLICT_HEADER, MAX_IDS, RecentIds
from stream_app.decisions.probe import Probe, good_payload
from tamiz.simulation.payload_formats import keyed_payloads
from tamiz.simulation.simulator import Traffic
from tests.helpers.traffic.invalid_payloads import INVALID_PAYLOADS, payload
from tests.helpers.traffic.profiled_dataset import profiled_dataset
from training.registry.mlflow_registry import download_bundle

DATASET = load_dataset("card_transactions")
POLICY = HandlerPolicy.from_settings(load({}), DATASET, counting=True)


class PayloadRecord(NamedTuple):
    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


@pytest.fixture(scope="module")
def model(champion_bundle: Path) -> MonitoredModel:
    return MonitoredModel.load(champion_bundle, version=3)


def records(*values: bytes | None, headers: tuple[tuple[str, bytes], ...] = ()) -> list[PayloadRecord]:
    return [PayloadRecord("transactions", i % 2, 10 + i, b"17", value, headers) for i, value in enumerate(values)]


def decisions(handled: handler.HandlerResult) -> list[Decision]:
    return [msgspec.json.decode(out.value or b"", type=Decision) for out in handled.decisions]


def test_valid_and_invalid_records_keep_the_order_of_their_partition(model: MonitoredModel) -> None:
    values = [v for broken in INVALID_PAYLOADS.values() for v in (payload(), broken.payload)]
    handled = handle(records(*values), model, POLICY)
    assert len(handled.decisions) == len(handled.dead_letters) == len(INVALID_PAYLOADS)
    for outputs in (handled.decisions, handled.dead_letters):
        for partition in (0, 1):
            offsets = [
                int(h.get("tamiz-offset") or h["__connect.errors.offset"])
                for out in outputs
                if out.partition == partition
                for h in [dict(out.headers)]
            ]
            assert offsets == sorted(offsets)


def test_a_dead_letter_carries_the_payload_untouched_and_why(model: MonitoredModel) -> None:
    handled = handle(records(*(b.payload for b in INVALID_PAYLOADS.values())), model, POLICY)
    assert [out.value for out in handled.dead_letters] == [b.payload for b in INVALID_PAYLOADS.values()]
    read = [dead_letters.read(out.headers) for out in handled.dead_letters]
    assert [(r.code, r.field) for r in read if r] == [(b.code, b.field) for b in INVALID_PAYLOADS.values()]


def test_a_decision_names_its_model_and_threshold(model: MonitoredModel) -> None:
    (decision,) = decisions(handle(records(payload(transaction_id="t-1")), model, POLICY))
    assert (decision.transaction_id, decision.decision_id) == ("t-1", decision_id("t-1"))
    assert (decision.model, decision.model_version) == (model.manifest.model, 3)
    assert decision.event_time_ms == 1578254400000
    assert 0 <= decision.score <= 1
    assert decision.score >= decision.threshold


def test_cloudevents_key_offset_and_trace_travel_with_a_decision(model: MonitoredModel) -> None:
    incoming = (("traceparent", b"00-aa-bb-01"), ("secret", b"x"))
    (out,) = handle(records(payload(), headers=incoming), model, POLICY).decisions
    headers = dict(out.headers)
    assert (out.key, out.partition) == (b"17", 0)
    assert headers["ce_id"].decode() == json.loads(out.value or b"")["decision_id"]
    assert headers["ce_specversion"] == b"1.0"
    assert headers["ce_time"] == b"2020-01-05T20:00:00.000Z"
    assert (headers["tamiz-offset"], headers["traceparent"]) == (b"10", b"00-aa-bb-01")
    assert "secret" not in headers


def test_the_same_record_and_model_give_the_same_bytes_again(model: MonitoredModel) -> None:
    batch = records(payload(), payload(monto="1"))
    first, second = (handle(batch, model, POLICY) for _ in range(2))
    assert first._replace(coded=None) == second._replace(coded=None)
    assert [a.tolist() for a in first.coded] == [a.tolist() for a in second.coded]


def test_one_by_one_and_as_a_batch_give_identical_decisions(model: MonitoredModel, real_payloads: list[bytes]) -> None:
    batch = records(*real_payloads[:300])
    alone = [out for record in batch for out in handle([record], model, POLICY).decisions]
    assert list(handle(batch, model, POLICY).decisions) == alone


def test_a_transaction_id_comes_from_payload_header_or_offset(model: MonitoredModel) -> None:
    header = (("tamiz-transaction-id", b"from-header"),)
    both = records(payload(transaction_id=7), headers=header)
    ids = [
        decisions(handle(batch, model, POLICY))[0].transaction_id
        for batch in (both, records(payload(), headers=header), records(payload()))
    ]
    assert ids == ["7", "from-header", "transactions-0-10"]


def test_the_incarnation_of_the_topic_is_part_of_an_id_and_travels_in_a_header(model: MonitoredModel) -> None:
    policy = POLICY._replace(topic_id="hT2xNq8vR1iQz5aYb0cDeg")
    handled = handle(records(payload(), b"{", headers=(("tamiz-topic-id", b"forged"),)), model, policy)
    (decision,), (letter,) = decisions(handled), handled.dead_letters
    about = dead_letters.read(letter.headers)
    assert decision.transaction_id == "transactions-0-10@hT2xNq8v"
    assert about is not None
    assert about.transaction_id == about.origin == "transactions-1-11@hT2xNq8v"
    for out in (handled.decisions[0], letter):
        assert [value for name, value in out.headers if name == "tamiz-topic-id"] == [b"hT2xNq8vR1iQz5aYb0cDeg"]


def test_only_flagged_decisions_have_reasons_strongest_first(simulated_registry: Settings, tmp_path: Path) -> None:
    model = MonitoredModel.load(download_bundle(simulated_registry, 1, tmp_path), version=1)
    sent = [value for _, value in keyed_payloads(Traffic(rows=1_500, seed=3, signal=True))]
    decided = decisions(handle(records(*sent), model, POLICY))
    flagged = [d for d in decided if d.outcome != "approve"]
    assert flagged
    assert [d for d in decided if (d.outcome == "approve") != (d.reasons == ())] == []
    for decision in flagged:
        parts = [reason.contribution for reason in decision.reasons]
        assert parts == sorted(parts, reverse=True)
        assert len(parts) <= 3


class Faulty:
    """A model that fails on one amount, as with an internal error."""

    def __init__(self, model: MonitoredModel, unbearable: float) -> None:
        self.manifest, self.version, self.bins, self.encoding = (
            model.manifest,
            model.version,
            model.bins,
            model.encoding,
        )
        self._model, self._unbearable = model, unbearable

    def score(self, matrix: Any) -> Any:
        if (matrix == np.float32(self._unbearable)).any():
            raise ZeroDivisionError("a bug")
        return self._model.score(matrix)


def profiled(folder: Path) -> tuple[HandlerPolicy, ProfileFold]:
    """A policy and a fold of partitions 0 and 1 of a data set with profiles of the card."""
    dataset = profiled_dataset(folder)
    fold = ProfileFold(dataset, [0, 1])
    for partition in (0, 1):
        fold.assign(partition, PartitionProfiles(fold.plan))
    return POLICY._replace(dataset=dataset), fold


def logged(handled: handler.HandlerResult) -> list[FeatureRecord]:
    return [msgspec.json.decode(out.value or b"", type=FeatureRecord) for out in handled.features]


def test_each_decision_has_a_record_of_the_feature_log(model: MonitoredModel, tmp_path: Path) -> None:
    policy, fold = profiled(tmp_path)
    handled = handle(records(payload(), b"{", payload(), payload()), model, policy, HandlerState(profiles=fold))
    names = [(d.transaction_id, d.event_time_ms) for d in decisions(handled)]
    assert [(f.transaction_id, f.event_time_ms) for f in logged(handled)] == names
    assert [(f.partition, f.key) for f in handled.features] == [(d.partition, d.key) for d in handled.decisions]
    count = fold.plan.names.index("id_user_count_1h")
    counts = {f.input_offset: np.frombuffer(f.values, "<f4")[count] for f in logged(handled)}
    assert counts == {10: 0, 12: 1, 13: 0}, "partition 0 has two of them"


def test_values_are_the_same_when_a_batch_is_handled_record_by_record(model: MonitoredModel, tmp_path: Path) -> None:
    batch = records(payload(monto="1"), payload(monto="777"), payload(monto="2"), payload(monto="3"))
    policy, fold = profiled(tmp_path)
    expected = [f for f in logged(handle(batch, model, policy, HandlerState(profiles=fold))) if f.input_offset != 11]
    policy, fold = profiled(tmp_path)
    handled = handle_with_isolation(batch, Faulty(model, 777.0), policy, HandlerState(profiles=fold))  # type: ignore[arg-type]
    assert logged(handled) == expected


def test_tiles_closed_by_a_record_that_triggers_a_bug_are_published(model: MonitoredModel, tmp_path: Path) -> None:
    first, _, last = records(payload(), None, payload(fecha="9/01/2020", monto="777"))
    policy, fold = profiled(tmp_path)
    expected = handle([first, last], model, policy, HandlerState(profiles=fold)).closed
    assert expected[0]
    policy, fold = profiled(tmp_path)
    handled = handle_with_isolation([first, last], Faulty(model, 777.0), policy, HandlerState(profiles=fold))  # type: ignore[arg-type]
    assert [r.code for r in handled.rejections] == ["internal-error"]
    rows = [[tiles.rows.tolist() for tiles in closed[0]] for closed in (handled.closed, expected)]
    assert rows[0] == rows[1]


def test_profiles_that_cannot_be_folded_make_no_dead_letters(model: MonitoredModel, tmp_path: Path) -> None:
    policy, fold = profiled(tmp_path)
    batch = records(payload(), payload())
    handle(batch, model, policy, HandlerState(profiles=fold))
    fold.commit({0: 11, 1: 12})
    with pytest.raises(ProfileStateError):
        handle_with_isolation(batch, model, policy, HandlerState(profiles=fold))


def test_without_a_source_profile_features_are_missing(model: MonitoredModel, tmp_path: Path) -> None:
    policy, _ = profiled(tmp_path)
    handled = handle(records(payload()), model, policy)
    assert (len(handled.decisions), len(handled.features)) == (1, 0)


def test_a_record_that_triggers_a_bug_is_a_dead_letter_and_the_rest_is_decided(model: MonitoredModel) -> None:
    batch = records(payload(monto="1"), payload(monto="777"), payload(monto="2"))
    handled = handle_with_isolation(batch, Faulty(model, 777.0), POLICY)  # type: ignore[arg-type]
    assert len(handled.decisions) == 2
    assert [r.code for r in handled.rejections] == ["internal-error"]
    assert handled.dead_letters[0].value == batch[1].value


def test_scored_rows_and_dead_letters_are_encoded_for_drift(model: MonitoredModel) -> None:
    batch = records(payload(linea_tc="NA"), b"no JSON", payload(monto="2"))
    codes, times = handle(batch, model, POLICY).coded or ((), ())
    counts = dict(zip(model.bins.names, np.split(model.bins.count(codes)[0], model.bins.offsets[1:-1]), strict=True))
    assert counts["linea_tc"].sum() == 2
    assert counts["linea_tc"][-1] == 1  # missing
    assert counts["dead-letter"].tolist() == [2, 1, 0]
    assert counts["alert"].sum() == counts["score"].sum() == 2
    assert (times == NO_TIME_MS).tolist() == [False, True, False]


@pytest.mark.parametrize("n", [1, 3])
def test_a_batch_of_records_that_trigger_a_bug_becomes_dead_letters(model: MonitoredModel, n: int) -> None:
    handled = handle_with_isolation(records(*[payload(monto="777")] * n), Faulty(model, 777.0), POLICY)  # type: ignore[arg-type]
    assert [r.code for r in handled.rejections] == ["internal-error"] * n
    assert len(handled.dead_letters) == n


@pytest.mark.parametrize("n", [1, 3])
def test_when_not_even_a_good_payload_can_be_handled_the_fault_is_ours_and_it_raises(
    model: MonitoredModel, n: int
) -> None:
    class FailingModel(Faulty):
        def score(self, matrix: Any) -> Any:
            raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError):
        handle_with_isolation(records(*[payload()] * n), FailingModel(model, 0.0), POLICY)  # type: ignore[arg-type]


def test_the_known_good_payload_is_decided(model: MonitoredModel) -> None:
    assert len(handle([Probe(good_payload(POLICY.dataset))], model, POLICY).decisions) == 1


@pytest.mark.parametrize(
    "declared",
    [
        'percent = "points"',
        'percent = "fraction"',
        'percent = "fraction"\ndecimal = ","\nmin = 1.125',
        "max = -3",
        "min = 7",
        'missing = ["0"]',
    ],
)
def test_the_good_payload_fits_every_format_of_numbers(tmp_path: Path, declared: str) -> None:
    path = tmp_path / "d.toml"
    path.write_text(
        f"""
name = "d"
key = "who"
features = ["share"]
[event_time]
date = "when"
formats = ["%Y-%m-%d"]
[[fields]]
name = "share"
kind = "number"
required = true
{declared}
""",
        encoding="utf-8",
    )
    dataset = load_dataset(str(path))
    assert clean_payloads(dataset, [good_payload(dataset)]).rejections == []


def test_an_id_given_to_two_payloads_is_seen_and_the_earlier_decision_counts(model: MonitoredModel) -> None:
    recent = RecentIds()
    one, other = payload(transaction_id="17"), payload(transaction_id="17", monto="1")
    sent = records(one, other, one, payload(transaction_id="18"), payload(), payload(monto="2"))
    batch = [record._replace(partition=0) for record in sent]
    first = handle(batch, model, POLICY, HandlerState(recent))
    marked = [dict(out.headers).get(CONFLICT_HEADER) for out in first.decisions]
    assert marked == [None, b"%d" % batch[0].offset, None, None, None, None]
    assert list(first.conflicts) == [first.decisions[1]]
    again = handle(batch, model, POLICY, HandlerState(recent))  # as after a rebalance
    assert [dict(out.headers).get(CONFLICT_HEADER) for out in again.decisions] == marked


def test_the_window_of_ids_drops_only_the_oldest() -> None:
    recent = RecentIds()
    for offset in range(MAX_IDS):
        assert recent.conflicting_offset(0, str(offset), b"payload", offset) is None
    assert recent.conflicting_offset(0, "0", b"another", MAX_IDS) == 0
    assert recent.conflicting_offset(1, "0", b"another", MAX_IDS) is None  # another partition
    assert recent.conflicting_offset(0, "one more", b"payload", MAX_IDS + 1) is None
    assert recent.conflicting_offset(0, "0", b"another", MAX_IDS + 2) is None


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        pytest.param({"key": b"k" * 5_000}, "key-too-large", id="a record key"),
        pytest.param({"headers": (("tamiz-transaction-id", b"\0" * 380_000),)}, "invalid-transaction-id", id="an id"),
        pytest.param({"headers": (("tamiz-transaction-id", b"x" * 401),)}, "invalid-transaction-id", id="a long id"),
        pytest.param({"headers": (("tamiz-transaction-id", b"\xff"),)}, "invalid-transaction-id", id="bytes as id"),
        pytest.param({"headers": (("tamiz-transaction-id", b"a\nb"),)}, "invalid-transaction-id", id="two lines as id"),
        pytest.param({"value": TruncatedBytes.truncate(b"x" * 90, 10)}, "too-large", id="a payload that is not whole"),
        pytest.param({"headers": [("a", b""), OmittedHeaders.of(9)]}, "headers-too-large", id="too many headers"),
        pytest.param({"value": Unreadable.with_reason("it is damaged", 9)}, "unreadable", id="a damaged record"),
    ],
)
def test_an_inadmissible_record_is_a_dead_letter_with_its_reason(
    model: MonitoredModel, changes: dict[str, Any], code: str
) -> None:
    (good, bad) = records(payload(), payload())
    handled = handle([good, bad._replace(**changes)], model, POLICY)
    assert len(handled.decisions) == len(handled.dead_letters) == 1
    about = dead_letters.read(handled.dead_letters[0].headers)
    assert about is not None
    assert about.code == code
    assert about.transaction_id == about.origin


def test_trace_headers_are_forwarded_once_up_to_their_lengths(model: MonitoredModel) -> None:
    (record,) = records(payload())
    state = ("tracestate", b"a" * 512)
    sent = (("traceparent", b"x" * 1_000_000), ("traceparent", None), state, ("tracestate", b"again"), ("other", b"x"))
    handled = handle([record._replace(headers=sent)], model, POLICY)
    forwarded = [h for h in handled.decisions[0].headers if h[0] in ("traceparent", "tracestate", "other")]
    assert forwarded == [state]
    assert handled.truncated_parts == {"trace": 3}
