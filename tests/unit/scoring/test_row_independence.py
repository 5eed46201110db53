"""A decision does not depend on the other rows of its batch or on the decoding path."""

import uuid
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from aiokafka.structs import ConsumerRecord
from hypothesis import given
from hypothesis import strategies as st

from monitoring.counting.monitored_model import MonitoredModel
from schemas.configuration.settings import Settings, load
from schemas.dataset.declaration import load_dataset
from scoring.decision import DECISION_IDS, decision_id
from scoring.input.decoding import decode_payloads
from scoring.input.number_parsing import parse_numbers
from stream_app.decisions.handler import HandlerPolicy, handle
from tamiz.simulation.payload_formats import keyed_payloads
from tamiz.simulation.simulator import Traffic
from training.registry.mlflow_registry import download_bundle

POLICY = HandlerPolicy.from_settings(load({}), load_dataset("card_transactions"), counting=True)
TRAFFIC = Traffic(rows=1_500, seed=3, signal=True, payload_format="mixed", invalid_share=0.05)
NAMES = ("a", "b", "c")
VALUES = st.sampled_from(["x", 'a"b', "back\\slash", "", None, 1, True, [1, "y"], {"a": "z"}, "ñ", "\n"])


def record(offset: int, key: bytes, value: bytes) -> Any:
    return ConsumerRecord("transactions", offset % 3, offset, 0, 0, key, value, None, len(key), len(value), ())


def test_one_by_one_and_as_a_batch_records_are_decided_alike(simulated_registry: Settings, tmp_path: Path) -> None:
    model = MonitoredModel.load(download_bundle(simulated_registry, 1, tmp_path), version=1)
    sent = list(keyed_payloads(TRAFFIC))
    batch = [record(offset, key, value) for offset, (key, value) in enumerate(sent)]
    together, alone = handle(batch, model, POLICY), [handle([one], model, POLICY) for one in batch]
    outcomes = [n for outcome, n in together.outcomes.items() if outcome != "challenge"]  # off by default
    assert min(len(together.decisions), len(together.dead_letters), *outcomes) > 0
    assert list(together.decisions) == [out for one in alone for out in one.decisions]
    assert [(out.partition, out.key, out.value) for out in together.dead_letters] == [
        (out.partition, out.key, out.value) for one in alone for out in one.dead_letters
    ]
    coded = [one.coded for one in alone if one.coded is not None]
    assert together.coded is not None
    for batched, single in zip(together.coded, zip(*coded, strict=True), strict=True):
        assert np.array_equal(batched, np.concatenate(single))


@given(st.lists(st.tuples(st.sampled_from([*NAMES, "d", 'q"']), VALUES), max_size=5), st.booleans())
def test_a_flat_object_is_read_as_any_other(pairs: list[tuple[str, Any]], spaced: bool) -> None:
    texts = [f"{msgspec.json.encode(key).decode()}:{msgspec.json.encode(value).decode()}" for key, value in pairs]
    payload = ("{" + (" , " if spaced else ",").join(texts) + "}").encode()
    found = decode_payloads(NAMES, [payload], 1_000)
    given_twice = len({key for key, _ in pairs}) < len(pairs)
    if given_twice:
        assert [fault.code for fault in found.faults.values()] == ["duplicate-key"]
    else:
        expected = dict(pairs)
        assert found.rows == [0]
        assert [found.columns[name][0] for name in NAMES] == [expected.get(name) for name in NAMES]


@pytest.mark.parametrize("payload", [b'{"a":"1"} x', b'{"a":"\xff"}', b'{"a":"1"', b'["a"]', b'{"a":"1","a":"2"}', b""])
def test_what_is_no_object_is_a_fault_beside_what_is(payload: bytes) -> None:
    found = decode_payloads(NAMES, [b'{"a":"1"}', payload, b'{"b":"2"}'], 1_000)
    assert (found.rows, list(found.faults)) == ([0, 2], [1])
    assert found.columns == {"a": ("1", None), "b": (None, "2"), "c": (None, None)}


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_decision_id_is_the_uuid_of_rfc_9562(transaction: str) -> None:
    assert decision_id(transaction) == str(uuid.uuid5(DECISION_IDS, transaction))


@pytest.mark.parametrize("text", ["0.125", "0,125", "-0.500", "1.080", "1234.567", "01.080", "0.125.000", "1 080"])
def test_a_number_is_read_alike_with_and_without_a_missing_one_in_its_column(text: str) -> None:
    missing = frozenset({""})
    (alone, fault), (column, faults) = parse_numbers([text], missing), parse_numbers([text, ""], missing)
    np.testing.assert_array_equal(alone, column[:1])
    assert fault == faults
