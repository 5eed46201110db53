"""Payloads as columns are the payloads that they were made of."""

import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from schemas.dataset.declaration import load_dataset
from scoring.input.cleaning import clean_payloads
from scoring.input.payload_columns import Payloads
from tests.helpers.traffic.invalid_payloads import INVALID_PAYLOADS, payload


@given(st.lists(st.none() | st.binary(max_size=9)), st.data())
def test_joined_payloads_are_a_sequence_of_the_same_bytes(payloads: list[bytes | None], data: st.DataObject) -> None:
    joined = Payloads.of(payloads)
    assert list(joined) == payloads
    assert [joined[row] for row in range(len(joined))] == payloads
    part = data.draw(st.slices(len(payloads)))
    assert list(joined[part]) == payloads[part]
    rows = np.arange(len(payloads))[part]
    assert joined.at(rows) == payloads[part]
    assert Payloads.of(joined) is joined


def test_payloads_in_a_larger_buffer_in_any_order_are_cleaned_as_their_bytes() -> None:
    kept: list[bytes | None] = [payload(), *(broken.payload for broken in INVALID_PAYLOADS.values()), payload(hora=3)]
    whole = bytearray(b"header")
    places = {}
    for i in reversed(range(len(kept))):
        places[i] = (len(whole), len(whole) + len(kept[i] or b"")) if kept[i] is not None else (-1, 0)
        whole += (kept[i] or b"") + b'"frame"'
    starts, ends = np.array([places[i] for i in range(len(kept))], dtype=np.int64).T
    dataset = load_dataset("card_transactions")
    of_columns, of_bytes = (clean_payloads(dataset, p) for p in (Payloads(memoryview(whole), starts, ends), kept))
    assert of_columns.rejections == of_bytes.rejections
    assert (of_columns.rows.tolist(), of_columns.keys) == ([0, len(kept) - 1], ["17", "17"])
    for name, column in of_bytes.columns.items():
        assert of_columns.columns[name].tolist() == column.tolist()


def test_a_buffer_that_can_be_written_is_read_only_as_payloads() -> None:
    buffer = np.frombuffer(bytearray(msgspec.json.encode({"a": 1})), dtype=np.uint8)
    assert not Payloads(buffer, np.array([0]), np.array([7])).buffer.flags.writeable
    assert buffer.flags.writeable
