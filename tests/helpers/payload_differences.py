"""Payloads of all kinds, valid and hostile, that the compiled scan and the general path must clean alike, bit for bit.

`payload_differences(n, seed)` compares n payloads of several data sets; a sample runs in the suite, and
`python -m tests.helpers.payload_differences N` runs as many as wanted.
"""

import contextlib
import json
import random
import sys
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from schemas.dataset.declaration import Dataset, load_dataset
from schemas.dataset.declaration_checks import find_fault
from schemas.dataset.fields import Declaration
from scoring.input.cleaning import CleanedBatch, clean_any_payloads, clean_payloads
from scoring.input.record_times import RecordTimes
from scoring.input.scan.scan_arrays import IDENTIFIER
from scoring.input.scan.scan_plan import scan_outputs

LOOK_ALIKES = Path(__file__).parent / "traffic" / "declarations"
MAX_BYTES = 2_000
NOW_MS = 1_580_000_000_000

# What the shipped declarations do not have: a zone, numbers that mean missing, marks, required fields of each kind.
ODD = """
name = "odd"
key = "who"
transaction_id = "tx"
label = "fraud"
features = ["a", "b", "país", "c", "e", "hour"]
missing = ["", "NA", "-1", "999", "abc"]
{extra}
[event_time]
date = "when"
{time}
[[fields]]
name = "a"
kind = "number"
{number}
[[fields]]
name = "b"
kind = "boolean"
required = {required}
[[fields]]
name = "país"
kind = "category"
required = {required}
[[fields]]
name = "d"
kind = "mapping"
required = {required}
entries = [{{name = "c", key = "c", kind = "category"}}, {{name = "e", key = "e", kind = "number", min = -2}},
    {{name = "f", key = "f", kind = "boolean"}}]
[[fields]]
name = "who"
kind = "category"
"""
TIME_FORMS = (
    'formats = ["%Y-%m-%d"]\nhour = "h"\nzone = "America/New_York"',
    'formats = ["%d.%m.%Y %H:%M"]\nzone = "America/Mexico_City"\nrepeated_hour = "later"',
    'formats = ["epoch_s"]',
    'formats = ["epoch_ms", "%Y-%m-%d %H:%M:%S"]',
    'formats = ["epoch_us"]',
    'formats = ["excel"]\nhour = "h"',
    'formats = ["%Y-%d-%mT%H:%M:%S"]',
    'formats = ["offset_s"]\norigin = "2020-01-01"',
    'formats = ["%Y-%m-%dT%H:%M:%S%z", "%Y%m%d"]\nzone = "Europe/Madrid"',
)
NUMBER_FORMS = (
    "min = 0\nmax = 1000",
    'decimal = "."\nthousands = ","\nrequired = true',
    'decimal = ","\nthousands = "."',
    'percent = "fraction"\ndecimal = "either"',
    'currency = ["$", "E"]',
    "normalize = true",
)

NUMBERS = (
    *(
        '"0"',
        '"-0"',
        "-0",
        "-0.0",
        '"0.0"',
        "1e400",
        '"1e400"',
        "1E5",
        "1e-400",
        '"1E+2"',
        '"608,3456335"',
        '"608.345"',
    ),
    *('"1.080"', '"1,080"', '" 5 "', '""', '"NA"', '"N/A"', '"--"', '"-1"', "-1", "-1.0", '"999"', "999", "999.0"),
    *('"999.0"', '".5"', '"5."', '","', '"."', '"+5"', '"00012"', '"1_000"', '"１２"', '"1.234,56"', '"1,234.5"'),
    *('"$5"', '"5 %"', '"5E"', '"NaN"', "NaN", "Infinity", '"inf"', "01", "+1", ".5", "1.", "-", "1e", '"1\\n2"'),
    *("123456789012345678901234567890", "0.1", "0.30000000000000004", "123456789012345", "1234567890123456", "1e22"),
    *('"0.1234567890123456789012345"', '"' + "0" * 50 + '1"', "9" * 400, '"' + "9" * 300 + '"', "4e38", "0.000001"),
)
LITERALS = (
    "true",
    "false",
    "null",
    "tru",
    "nul",
    "TRUE",
    "[]",
    "{}",
    "[1]",
    '["a"]',
    '{"a":1}',
    '{"a":{"a":[{"b":1}]}}',
)
TEXTS = (
    *(
        '"F"',
        '"true"',
        '"FALSE"',
        '"Yes"',
        '"sí"',
        '"S\\u00ed"',
        '"FÃ\xadsica"',
        '"Física"',
        '"Fi\u0301sica"',
        '"\\ud800"',
    ),
    *(
        '"\\ud83d\\ude00"',
        '"😀"',
        '"\\x"',
        '"\\u12"',
        '"a\\"b"',
        '"a\\\\"',
        '"tab\tin"',
        '"\x7f"',
        '"a b"',
        '" a "',
        '"7.0"',
    ),
    *('"abc"', '"ABC"', '"falsE"', '"trueish"', '"4,1E+15"', '"a@b.c"', '"id:1/2-3_4"', '"' + "x" * 199 + '"'),
    *(
        '"' + "x" * 201 + '"',
        '"' + "x" * 600 + '"',
        '"\u00a0"',
        '"12345678901234567890"',
        "12345678901234567890",
        '"1.0"',
    ),
)
TIMES = (
    *('"2020-01-05"', '"5/01/2020"', '"2020-02-29T23:59:59Z"', '"2019-02-29T00:00:00Z"', '"2020-01-05T20:13:45"'),
    *('"2020-01-05 20:13:45"', '"2020-01-05T20:13:45.5Z"', '"2020-01-05T20:13:45.123456Z"', '"2020-01-05T00:00:00"'),
    *('"2020-01-05T20:13:45+05:30"', '"2020-01-05T20:13:45-0530"', '"2020-01-05T24:00:00Z"', '"1969-12-31T23:59:59Z"'),
    *('"1970-01-01T00:00:00+01:00"', '"2199-12-31T23:59:59.999Z"', '"2200-01-01T00:00:00Z"', '"2020-13-01T00:00:00Z"'),
    *('"2020-11-01T01:30:00"', '"2020-03-08T02:30:00"', '"2020-03-08 02:30:00"', '"01.11.2020 01:30"', '"2020-03-08"'),
    *(
        "1580000000",
        "1580000000000",
        '"1580000000"',
        "1580000000.5",
        '"1580000000123"',
        "43850",
        '"43850.5"',
        "20200105",
    ),
    *("1580000000123456", '"20200105"', '"2020-01-05t20:13:45z"', '"2020-01-05T20:13:45 Z"', "3600", '"0"', '"NaT"'),
)
MAPPINGS = (
    *(
        "\"{'model': 2020; 'device_score': 3; 'os': 'ANDROID'}\"",
        "\"{'model': 20, 'os': '%%'}\"",
        '"{}"',
        "\"{'os': }\"",
    ),
    *(
        '{"model":2020,"device_score":3,"os":"WEB"}',
        '{"os":"WEB","os":"IOS"}',
        '{"os": "é"}',
        '{"os": "\\u00e9"}',
        '{"x',
    ),
    *(
        '{"c":"x","e":-1,"f":true}',
        '{"c":"x","e":5,"f":"no"}',
        '{"e":-3}',
        '{"f":"perhaps"}',
        '{"c":"\xc3"}',
        '{"c":{}}',
    ),
    *("\"{'c': 'x'; 'e': 999; 'f': 'yes'}\"", '{"e":1e400}', '{"e":NaN}', '{"c":"]","e":1}', '{"c":["x"]}', "{'c':1}"),
)
POOLS = (NUMBERS, LITERALS, TEXTS, TIMES, MAPPINGS)
SPACES = ("", "", "", "", " ", "\n", "\t\r ", "\x0b", "\u00a0")


def data_sets(rng: random.Random) -> list[Dataset]:
    """The shipped declarations, the look-alikes, and odd ones."""
    found = [load_dataset(name) for name in ("card_transactions", "terminal_transactions")]
    found += [load_dataset(str(path)) for path in sorted(LOOK_ALIKES.glob("*.toml"))]
    for time in TIME_FORMS:
        text = ODD.format(
            time=time,
            number=rng.choice(NUMBER_FORMS),
            required=rng.choice(("true", "false")),
            extra=rng.choice(("", 'decimal = "."', 'decimal = "either"')),
        )
        declaration = msgspec.convert(tomllib.loads(text), Declaration)
        if (fault := find_fault(declaration)) is not None:
            raise ValueError(f"{text}\n{fault}")
        found.append(Dataset(declaration))
    return found


class Tokens:
    """Draws tokens for the fields of a data set, most of which it accepts."""

    def __init__(self, dataset: Dataset, rng: random.Random) -> None:
        self.dataset, self.rng = dataset, rng
        self.kinds: dict[str, str] = {f.name: f.kind for f in dataset.fields}
        outputs = [] if len(dataset.event_time.parts) > 1 else scan_outputs(dataset)
        self.parsers = [(o.field, o.parse) for o in outputs if o.kind != IDENTIFIER]

    def row(self) -> dict[str, str]:
        """A token for each field."""
        return {name: self.usual(name) for name in self.dataset.field_names}

    def usual(self, name: str) -> str:
        """A token of a field; up to ten are drawn for one that all of its parsers accept."""
        parsers = [parse for field, parse in self.parsers if field == name]
        for _ in range(10):
            token = self.drawn(name)
            with contextlib.suppress(msgspec.DecodeError):
                value = msgspec.json.decode(token.encode())
                if not any(parse([value])[1] for parse in parsers):
                    break
        return token

    def drawn(self, name: str) -> str:
        """A token of the kind of a field."""
        rng, dataset, kind = self.rng, self.dataset, self.kinds.get(name)
        if name in dataset.event_time.parts:
            day = f"2020-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}"
            clock = f"{rng.randint(0, 23):02}:{rng.randint(0, 59):02}:{rng.randint(0, 59):02}"
            zone = rng.choice(("", "Z", "-03:00", ".5", ".125Z"))
            moments = f"{day}", f"{day}T{clock}{zone}", f"{day} {clock}", f"{day}T{rng.randint(0, 23):02}:00:00"
            seconds = rng.randint(1_400_000_000, 1_700_000_000)
            numbers = f"{seconds}", f"{seconds}{rng.randint(0, 999):03}", f"{rng.randint(0, 50_000)}"
            token = rng.choice((*moments, *numbers))
            return token if token in numbers and rng.random() < 0.5 else f'"{token}"'
        if name == dataset.event_time.hour:
            return rng.choice(("20", '"20"', str(rng.randint(0, 23)), "null", '"7.0"'))
        if name in (dataset.key, dataset.transaction_id):
            return rng.choice((str(rng.randint(0, 99)), f'"user-{rng.randint(0, 99)}"', '"17"'))
        if kind == "number":
            number = rng.uniform(0, 99)
            return rng.choice((f"{number:.3f}", f'"{number:.10g}"', "3", '"5,25"', repr(number), rng.choice(NUMBERS)))
        if kind == "mapping":
            return rng.choice(MAPPINGS)
        if kind == "boolean" or name == dataset.label:
            return rng.choice(("true", '"FALSE"', '"1"', "0"))
        return rng.choice(
            (f'"level {rng.randint(0, 9)}"', '"Física"', "7", f'"{rng.getrandbits(40)}"', rng.choice(TEXTS))
        )


def payload_of(tokens: Tokens, rng: random.Random) -> bytes | None:
    """One payload: usual, unusual or broken."""
    row: list[tuple[str, str]] = []
    for name, token in tokens.row().items():
        roll = rng.random()
        if roll < 0.01:
            token = rng.choice(rng.choice(POOLS))
        if roll < 0.99 or rng.random() < 0.5:
            row.append((json.dumps(name, ensure_ascii=rng.random() < 0.02), token))
    if rng.random() < 0.1:
        names = ('"x"', '"\\u0078"', '"ñ"', '""', '"A"', '"\\ud800"', row[0][0] if row else '"y"')
        for _ in range(rng.choice((1, 1, 2, 40))):
            name = rng.choice(names) if rng.random() < 0.7 else f'"x{rng.randint(0, 60)}"'
            row.insert(rng.randint(0, len(row)), (name, rng.choice(rng.choice(POOLS))))
    if rng.random() < 0.1:
        rng.shuffle(row)
    if rng.random() < 0.2:

        def space() -> str:
            return rng.choice(SPACES) if rng.random() < 0.05 else ""

        pairs = [f"{space()}{name}{space()}:{space()}{token}{space()}" for name, token in row]
        text = f"{space()}{{{','.join(pairs)}}}{space()}"
    else:
        text = "{" + rng.choice((",", ", ")).join(f"{name}:{token}" for name, token in row) + "}"
    payload = text.encode(*(("latin-1", "replace") if rng.random() < 0.01 else ("utf-8", "surrogatepass")))
    return _mutated(payload, rng) if rng.random() < 0.1 else payload


def _mutated(payload: bytes, rng: random.Random) -> bytes | None:
    where = rng.randint(0, len(payload))
    match rng.randint(0, 8):
        case 0:
            return payload[:where]
        case 1:
            return payload[:where] + payload[where + 1 :]
        case 2:
            return payload[:where] + bytes([rng.randint(0, 255)]) + payload[where + 1 :]
        case 3:
            return (
                payload[:where]
                + rng.choice((b'"', b"\\", b",", b"}", b"{", b"\0", b"\xed\xa0\x80", b"\xc0\x80"))
                + payload[where:]
            )
        case 4:
            return payload + rng.choice((b" ", b"x", b"{}", b"\0", payload))
        case 5:
            return rng.choice((b"\xef\xbb\xbf", b" ", b"[")) + payload
        case 6:
            return rng.choice((None, b"", b" \n", b"null", b"[]", b"{}", b"{ }", b"42", b'"a"', b"[" * 900, b"{"))
        case 7:
            return payload[:where] + b" " * rng.choice((1, MAX_BYTES)) + payload[where:]
    start = rng.randint(0, where)
    return payload[:where] + payload[start:where] + payload[where:]


def same(a: CleanedBatch, b: CleanedBatch) -> bool:
    """Bit for bit."""
    return (
        (a.n, a.rows.tolist(), a.keys, a.transaction_ids, a.rejections, list(a.columns))
        == (b.n, b.rows.tolist(), b.keys, b.transaction_ids, b.rejections, list(b.columns))
        and a.event_time_ms.tobytes() == b.event_time_ms.tobytes()
        and a.event_time_ms.dtype == b.event_time_ms.dtype
        and all(
            left.dtype == b.columns[name].dtype
            and (
                left.tolist() == b.columns[name].tolist()
                if left.dtype == object
                else left.tobytes() == b.columns[name].tobytes()
            )
            for name, left in a.columns.items()
        )
    )


def compare(dataset: Dataset, payloads: list[bytes | None], times: RecordTimes | None) -> tuple[bool, int]:
    """Whether both paths give the same, and how many payloads are accepted."""
    scanned = clean_payloads(dataset, payloads, max_payload_bytes=MAX_BYTES, record_times=times)
    general = clean_any_payloads(dataset, payloads, read_labels=False, max_payload_bytes=MAX_BYTES, record_times=times)
    return same(scanned, general), len(general.rows)


def payload_differences(n: int, seed: int) -> tuple[list[Any], int]:
    """Payloads that the two paths clean differently, with their data sets; and the number of accepted payloads."""
    rng = random.Random(seed)
    found: list[Any] = []
    accepted = done = 0
    sets = [Tokens(dataset, rng) for dataset in data_sets(rng)]
    while done < n:
        tokens = rng.choice(sets)
        dataset = tokens.dataset
        payloads = [payload_of(tokens, rng) for _ in range(rng.choice((1, 1, 3, 30, 60)))]
        times = None
        if rng.random() < 0.5:
            ms = [rng.choice((NOW_MS, -1, 0, NOW_MS + 10**10, 2 * NOW_MS)) for _ in payloads]
            times = RecordTimes(ms if rng.random() < 0.5 else np.array(ms), rng.choice((0, 3_600_000)))
        equal, rows = compare(dataset, payloads, times)
        if not equal:
            found.append((dataset.name, dataset.event_time, payloads, times))
        accepted += rows
        done += len(payloads)
    return found, accepted


def main() -> None:
    """Compare as many payloads as the command line says, ten seeds at a time."""
    n = int(sys.argv[1])
    for seed in range(10):
        found, accepted = payload_differences(n // 10, seed)
        print(f"seed {seed}: {n // 10:,} payloads, {accepted:,} accepted, {len(found)} batches differ", flush=True)
        if found:
            raise SystemExit(f"{found[0]}")


if __name__ == "__main__":
    main()
