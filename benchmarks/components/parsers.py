"""CPU time of each parser per value: for normal text and for hostile text of maximum size.

`python -m benchmarks.components.parsers` prints a table, in microseconds a value; nothing is cached between two values.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from schemas.dataset.fields import TimeForm
from schemas.dataset.time_formats import event_time_format
from schemas.dataset.value_formats import FALSE_VALUES, TRUE_VALUES, TruthValues
from scoring.input.boolean_parsing import parse_booleans
from scoring.input.decoding import decode_payloads
from scoring.input.mapping_parsing import MAX_MAPPING_LENGTH, parse_mappings
from scoring.input.number_parsing import parse_numbers
from scoring.input.text_parsing import parse_categories
from scoring.input.time_parsing import parse_times
from scoring.input.value_parsing import MAX_TEXT_LENGTH

REPEATS = 300
MAX_PAYLOAD_BYTES = 65_536
NONE: frozenset[str] = frozenset({""})
TIMES = event_time_format(TimeForm(formats=("%d/%m/%Y", "%Y-%m-%d")))
NAMES = ("ID_USER", "monto")
TRUTH = TruthValues(true=frozenset(TRUE_VALUES), false=frozenset(FALSE_VALUES))


def fill_text(beginning: str, filling: str, end: str, size: int) -> str:
    """Text of `size` characters."""
    times_ = (size - len(beginning) - len(end)) // len(filling)
    return beginning + filling * times_ + end


def payload(beginning: str, filling: str, end: str = "") -> bytes:
    return fill_text(beginning, filling, end, MAX_PAYLOAD_BYTES).encode()


PARSERS: dict[str, tuple[Callable[[Sequence[Any]], object], Any, dict[str, Any]]] = {
    "number": (
        lambda values: parse_numbers(values, NONE),
        "608,3456335",
        {
            "digits": "1" * MAX_TEXT_LENGTH,
            "digits, as many as a payload holds": "1" * 60_000,
            "digits and a letter": "1" * (MAX_TEXT_LENGTH - 1) + "x",
            "points": "." * MAX_TEXT_LENGTH,
            "an integer of 4,000 digits": 10**4_000,
        },
    ),
    "time": (
        lambda values: parse_times(values, TIMES, NONE),
        "5/01/2020",
        {"slashes": "/" * 40, "digits": "1" * 40, "spaces": " " * MAX_TEXT_LENGTH, "a long year": "5/01/" + "2" * 35},
    ),
    "mapping": (
        lambda values: parse_mappings(values, ["model"], NONE),
        "{'model': 2020; 'device_score': 3; 'os': 'ANDROID'}",
        {
            "{ and spaces": "{" + " " * 985,
            "spaces before the end": fill_text("{a:1", " ", "x", MAX_MAPPING_LENGTH),
            "pairs and no end": fill_text("{", "a:1;", "", MAX_MAPPING_LENGTH),
            "spaces between pairs": fill_text("{", "a : 1 ; ", "", MAX_MAPPING_LENGTH),
            "an open quotation mark": fill_text("{'a':'", "b", "", MAX_MAPPING_LENGTH),
            "letters": fill_text("{", "a", "", MAX_MAPPING_LENGTH),
            "colons": fill_text("{a", ":", "", MAX_MAPPING_LENGTH),
        },
    ),
    "category": (
        lambda values: parse_categories(values, NONE),
        "Fï¿½sica",
        {
            "broken UTF-8": "Ã" * MAX_TEXT_LENGTH,
            "marks": "e" + "\u0301" * (MAX_TEXT_LENGTH - 1),
            "spaces": " " * MAX_TEXT_LENGTH,
        },
    ),
    "boolean": (
        lambda values: parse_booleans(values, NONE, TRUTH),
        "FALSE",
        {"letters": "ß" * MAX_TEXT_LENGTH, "spaces": " " * MAX_TEXT_LENGTH},
    ),
    "JSON": (
        lambda values: decode_payloads(NAMES, values, MAX_PAYLOAD_BYTES),
        b'{"ID_USER": "17", "monto": "608,3456335"}',
        {
            "brackets": payload("", "["),
            "nested objects": payload("", '{"a":'),
            "keys": ("{" + ",".join(f'"{i}":1' for i in range(6_000)) + "}").encode(),
            "one key": ("{" + ",".join('"a":1' for _ in range(9_000)) + "}").encode(),
            "backslashes": payload('{"a": "', "\\\\", '"}'),
            "digits": payload('{"a": ', "1", "}"),
            "spaces": payload("", " "),
        },
    ),
}


def microseconds(parse: Callable[[Sequence[Any]], object], value: Any) -> float:
    """Microseconds per value; all values are distinct, so that no cache applies."""
    values = [value[:-6] + f"{i:06d}" if isinstance(value, str) and len(value) > 12 else value for i in range(REPEATS)]
    best = float("inf")
    for start in range(0, REPEATS, 50):
        began = time.perf_counter()
        for each in values[start : start + 50]:
            parse([each])
        best = min(best, (time.perf_counter() - began) / 50)
    return best * 1e6


def main() -> None:
    """Print the table."""
    table = Table("parser", "text", "µs", "characters", "times a normal value")
    for name, (parse, normal, hostile) in PARSERS.items():
        usual = microseconds(parse, normal)
        table.add_row(name, "normal", f"{usual:.1f}", str(len(normal)), "")
        for kind, value in hostile.items():
            cost = microseconds(parse, value)
            size = len(value) if isinstance(value, str | bytes) else "-"
            table.add_row("", kind, f"{cost:.1f}", str(size), f"{cost / usual:.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
