"""The compiled scan of payloads: the results of the general path, whatever it has learned, and in any thread."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import numpy as np
import pytest

from schemas.dataset.declaration import Dataset, load_dataset
from scoring.coded_columns import CodedColumns, join_columns
from scoring.features import featurize, fit_encoding
from scoring.input.cleaning import clean_payloads
from scoring.input.payload_columns import Payloads
from scoring.input.record_times import RecordTimes
from scoring.input.scan import payload_scanner
from scoring.input.scan.json_tokens import is_valid_text
from scoring.input.scan.payload_scanner import PayloadScanner, SharedScanner
from scoring.input.scan.token_tables import MAX_TOKENS, empty_tables, find_token, learn_tokens
from tamiz.simulation.payload_formats import keyed_payloads
from tamiz.simulation.simulator import Traffic
from tests.helpers.payload_differences import MAX_BYTES, compare, payload_differences, same
from tests.helpers.traffic.invalid_payloads import EQUIVALENT_PAYLOADS, INVALID_PAYLOADS, payload

CARD = load_dataset("card_transactions")


def test_the_scan_and_the_general_path_clean_every_payload_alike() -> None:
    found, accepted = payload_differences(3_000, seed=1)
    assert found == []
    assert accepted > 1_000


def test_a_payload_is_cleaned_alike_before_and_after_its_values_are_learned() -> None:
    every = [*EQUIVALENT_PAYLOADS.values(), *(broken.payload for broken in INVALID_PAYLOADS.values())]
    scanner = PayloadScanner(CARD)
    times = RecordTimes([0] * len(every), 0)
    first, again = (scanner.clean(Payloads.of(every), 65_536, times) for _ in range(2))
    assert same(first, again)
    backwards = PayloadScanner(CARD).clean(Payloads.of(every[::-1]), 65_536, times)
    assert backwards.columns["monto"].tolist() == first.columns["monto"].tolist()[::-1]
    assert compare(CARD, [p for p in every if len(p or b"") <= MAX_BYTES], None)[0]


@pytest.mark.parametrize("payload_format", ["original", "plain", "json"])
def test_usual_traffic_takes_the_general_path_only_until_it_is_learned(
    payload_format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = [value for _, value in keyed_payloads(Traffic(rows=4_000, seed=5, payload_format=payload_format))]
    scanner = PayloadScanner(CARD)
    for _ in range(2):
        scanner.clean(Payloads.of(values), 65_536, None)

    def general(*args: Any, **options: Any) -> None:
        raise AssertionError("a usual payload takes the general path")

    monkeypatch.setattr(payload_scanner, "clean_any_payloads", general)
    monkeypatch.setattr(scanner, "_set_values", general)
    assert len(scanner.clean(Payloads.of(values), 65_536, None).rows) == 4_000


def test_a_table_that_is_full_is_emptied_and_gives_the_same_levels() -> None:
    def batch(start: int, n: int) -> list[bytes | None]:
        return [payload(ciudad=f"city {i}", genero=f"g {i % 7}") for i in range(start, start + n)]

    scanner = PayloadScanner(CARD)
    kept = scanner.clean(Payloads.of(batch(0, 1_000)), 65_536, None)
    for start in range(0, 5 * MAX_TOKENS, 4_000):
        found = scanner.clean(Payloads.of(batch(start, 4_000)), 65_536, None)
        assert found.columns["ciudad"].tolist() == [f"city {i}" for i in range(start, start + 4_000)]
    assert found.columns["genero"].tolist() == [f"g {i % 7}" for i in range(start, start + 4_000)]
    assert max(map(len, scanner._levels.values())) <= 2 * MAX_TOKENS + 4_000
    assert kept.columns["ciudad"].tolist() == [f"city {i}" for i in range(1_000)]


def test_threads_that_clean_with_one_scanner_get_what_one_thread_gets() -> None:
    parts = [
        [payload(ciudad=f"{part} {i}", monto=str(i), genero=f"g{i % 5}") for i in range(3_000)] for part in range(8)
    ]
    scanner = SharedScanner(CARD)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda part: scanner.clean(Payloads.of(part), 65_536, None), parts))
    assert all(map(same, found, (PayloadScanner(CARD).clean(Payloads.of(part), 65_536, None) for part in parts)))


def test_tokens_of_one_hash_are_told_apart_and_do_not_displace_others() -> None:
    tables = empty_tables(1, 1)
    buffer = np.frombuffer(b"".join(b"%05d" % i for i in range(100)), np.uint8)
    starts, ends = np.arange(0, 500, 5), np.arange(5, 505, 5)
    learn_tokens(tables, 0, 0, buffer, starts, ends, np.arange(100.0)[None], np.arange(100) % 2 == 0)
    found = [find_token(tables, 0, buffer, start, end) for start, end in zip(starts, ends, strict=True)]
    assert [tables.results[0, token] for token in found[::2]] == list(range(0, 100, 2))
    assert set(found[1::2]) == {-1}
    # Another token with the same hash: only its bytes differ.
    tables.hashes[0, found[0]] = tables.hashes[0, found[2]]
    tables.slots[0][tables.slots[0] == found[2] + 1] = found[0] + 1
    assert find_token(tables, 0, buffer, starts[2], ends[2]) == -1


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("é€😀\x7f".encode(), True),
        (b'\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9', True),
        (b"\\ud83d\\ude00", False),  # a pair is JSON, too: the general path reads it
        (b"\\u00g0", False),
        (b"\\u00e", False),
        (b"\\x", False),
        (b"\xc0\x80", False),
        (b"\xe0\x80\x80", False),
        (b"\xed\xa0\x80", False),
        (b"\xf4\x90\x80\x80", False),
        (b"\xf0\x80\x80\x80", False),
        (b"\xe2\x82", False),
        (b"\xff", False),
    ],
)
def test_a_text_that_nobody_reads_is_checked(text: bytes, valid: bool) -> None:
    assert is_valid_text(np.frombuffer(text, np.uint8), 0, len(text)) is valid
    if valid:
        msgspec.json.decode(b'"' + text + b'"')


def test_coded_columns_are_encoded_as_columns_of_texts() -> None:
    values = [value for _, value in keyed_payloads(Traffic(rows=3_000, seed=6, payload_format="mixed"))]
    coded = clean_payloads(CARD, values).columns
    assert isinstance(coded, CodedColumns)
    as_texts = {name: coded[name] for name in coded}
    encoding = fit_encoding(CARD, as_texts, max_levels=3)
    assert featurize(encoding, coded).tobytes() == featurize(encoding, as_texts).tobytes()
    extended = join_columns(coded, {"more": np.zeros(len(values))})
    assert (list(extended), len(extended), "more" in extended) == ([*coded, "more"], len(coded) + 1, True)
    assert featurize(encoding, extended).tobytes() == featurize(encoding, as_texts).tobytes()
    assert list(join_columns(as_texts, {"more": np.zeros(3)})) == list(extended)


def test_an_empty_batch_has_all_columns() -> None:
    cleaned = clean_payloads(CARD, [])
    assert [len(column) for column in cleaned.columns.values()] == [0] * 16
    assert (cleaned.n, cleaned.keys, cleaned.transaction_ids) == (0, [], [])


def test_a_data_set_without_key_and_id_is_scanned(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("declared") / "few.toml"
    path.write_text(
        'name = "few"\nkey = ""\nfeatures = ["a"]\n[event_time]\ndate = "t"\nformats = ["epoch_ms"]\n'
        '[[fields]]\nname = "a"\nkind = "number"\n'
    )
    dataset: Dataset = load_dataset(str(path))
    cleaned = clean_payloads(
        dataset, [b'{"t":1580000000123,"a":0.1}', b'{"t":"NaT"}', b'{"a":"1","t":"1580000000124"}']
    )
    assert (cleaned.keys, cleaned.transaction_ids, cleaned.rows.tolist()) == ([], [None, None], [0, 2])
    assert cleaned.event_time_ms.tolist() == [1580000000123, 1580000000124]
    assert cleaned.columns["a"].tolist() == [0.1, 1.0]
