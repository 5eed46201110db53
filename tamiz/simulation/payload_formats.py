"""Formats of simulated transactions: the card data set's own inconsistent format, and cleaner ones.

original: decimal comma, unpadded day, "Física" encoded twice, `;` inside `dispositivo`, missing spelled four ways.
plain: decimal dot, ISO dates, a Python dictionary, True/False. json: numbers, booleans, null, a nested object and the
full time stamp. mixed: another one from row to row. The first two also go into CSV.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from schemas.errors import ConfigError
from schemas.time_units import DAY_MS
from scoring.arrays import Array, Columns
from tamiz.simulation.invalid_payloads import break_some
from tamiz.simulation.simulator import Simulated, Traffic, streams

FIELDS = (
    *("ID_USER", "genero", "monto", "fecha", "hora", "dispositivo", "establecimiento", "ciudad", "tipo_tc"),
    *("linea_tc", "interes_tc", "status_txn", "is_prime", "dcto", "cashback", "fraude"),
)
CHUNK = 50_000  # rows rendered at once; part of what a seed means, as each chunk draws its spellings in turn
TWICE_ENCODED = "Física".encode().decode("latin-1")

_TEXT_PAYLOAD = "{" + ",".join(f'"{name}":"%s"' for name in FIELDS) + "}"
_JSON_PAYLOAD = "{" + ",".join(f'"{name}":%s' for name in FIELDS) + "}"
_CSV_LINE = ";".join('"%s"' if name == "dispositivo" else "%s" for name in FIELDS)


def payloads(traffic: Traffic, simulated: Simulated) -> Iterator[tuple[list[bytes], list[bytes]]]:
    """Keys and JSON payloads for the topic, some tens of thousands at a time, in event order.

    A key is the card holder's id as text, also where the payload is broken.
    """
    spelling, breaking = _generators(traffic)
    for chunk in _chunks(simulated):
        keys = [str(user).encode() for user in chunk["ID_USER"].tolist()]
        lines = _lines(chunk, traffic.payload_format, _PAYLOADS, spelling)
        yield keys, break_some([line.encode() for line in lines], traffic.invalid_share, breaking)


def write(traffic: Traffic, simulated: Simulated, path: Path) -> None:
    """Write a CSV (`.csv`) or JSON lines (any other name).

    Raises ConfigError when the format cannot hold what is asked for.
    """
    if path.suffix.lower() == ".csv":
        _write_csv(traffic, simulated, path)
        return
    with path.open("wb") as file:
        for _, values in payloads(traffic, simulated):
            file.write(b"\n".join(values) + b"\n")


def _write_csv(traffic: Traffic, simulated: Simulated, path: Path) -> None:
    if traffic.payload_format == "json":
        raise ConfigError(f"{path}: format json does not go into a CSV; name the file .jsonl")
    if traffic.invalid_share:
        raise ConfigError(f"{path}: broken payloads do not go into a CSV; name the file .jsonl")
    spelling, _ = _generators(traffic)
    encoding, end = ("utf-8", "\n") if traffic.payload_format == "plain" else ("utf-8-sig", "\r\n")
    with path.open("w", encoding=encoding, newline="") as file:
        file.write(";".join(FIELDS) + end)
        for chunk in _chunks(simulated):
            file.write(end.join(_lines(chunk, traffic.payload_format, _CSV, spelling)) + end)


def _generators(traffic: Traffic) -> tuple[np.random.Generator, np.random.Generator]:
    spelling, breaking = streams(traffic)[-1].spawn(2)
    return np.random.default_rng(spelling), np.random.default_rng(breaking)


def _chunks(simulated: Simulated) -> Iterator[Columns]:
    columns = {**simulated.columns, "event_time_ms": simulated.event_time_ms, "fraude": simulated.labels}
    for start in range(0, len(simulated.labels), CHUNK):
        yield {name: column[start : start + CHUNK] for name, column in columns.items()}


def _lines(columns: Columns, spelling: str, formats: "Formats", rng: np.random.Generator) -> Sequence[str]:
    if spelling != "mixed":
        spell, template = formats[spelling]
        return list(map(template.__mod__, zip(*spell(columns, rng), strict=True)))
    which = rng.integers(0, len(formats), len(columns["fraude"]))
    lines = np.empty(len(which), dtype=object)
    for i, one in enumerate(formats):
        rows = np.flatnonzero(which == i)
        lines[rows] = _lines({name: column[rows] for name, column in columns.items()}, one, formats, rng)
    mixed: list[str] = lines.tolist()
    return mixed


def _original(columns: Columns, rng: np.random.Generator) -> list[list[str]]:
    score, os = _numbers(columns["device_score"]), _levels(columns["device_os"], _any_of(("%%", ","), columns, rng))
    model = _numbers(columns["device_model"])
    device = [f"{{'model': {m}; 'device_score': {s}; 'os': '{o}'}}" for m, s, o in zip(model, score, os, strict=True)]
    dates = _dates(columns, lambda d: f"{d.day}/{d:%m/%Y}")
    return _strings(columns, rng, dates, device, comma=True, types={"Física": TWICE_ENCODED}, booleans="FALSE TRUE")


def _plain(columns: Columns, rng: np.random.Generator) -> list[list[str]]:
    score, os = _numbers(columns["device_score"]), _levels(columns["device_os"], _any_of((".",), columns, rng))
    model = _numbers(columns["device_model"])
    device = [f"{{'model': {m}, 'device_score': {s}, 'os': '{o}'}}" for m, s, o in zip(model, score, os, strict=True)]
    dates = _dates(columns, lambda d: f"{d:%Y-%m-%d}")
    return _strings(columns, rng, dates, device, comma=False, types={}, booleans="False True")


def _strings(
    columns: Columns,
    rng: np.random.Generator,
    dates: list[str],
    device: list[str],
    *,
    comma: bool,
    types: Mapping[str, str],
    booleans: str,
) -> list[list[str]]:
    def amounts(name: str) -> list[str]:
        texts = _numbers(columns[name])
        # One replacement over all of them costs a tenth of one for each.
        return ";".join(texts).replace(".", ",").split(";") if comma else texts

    words = booleans.split()
    # A card holder's city is missing in the same way each time; a place is so in one way or the other.
    of_holder = [("", "NA", "N/A")[user % 3] for user in columns["ID_USER"].tolist()]
    n = len(of_holder)
    return [
        list(map(str, columns["ID_USER"].tolist())),
        _levels(columns["genero"], ["--"] * n),
        amounts("monto"),
        dates,
        _numbers(columns["hour"]),
        device,
        _levels(columns["establecimiento"], _any_of(("", "NA", "N/A"), columns, rng)),
        _levels(columns["ciudad"], of_holder),
        [types.get(v, v) for v in columns["tipo_tc"].tolist()],
        _numbers(columns["linea_tc"]),
        _numbers(columns["interes_tc"]),
        _levels(columns["status_txn"], [""] * n),
        [words[int(v)] for v in columns["is_prime"].tolist()],
        amounts("dcto"),
        amounts("cashback"),
        [words[v] for v in columns["fraude"].tolist()],
    ]


def _json(columns: Columns, rng: np.random.Generator) -> list[list[str]]:
    def quoted(name: str) -> list[str]:
        return ["null" if v is None else f'"{v}"' for v in columns[name].tolist()]

    def numbers(name: str) -> list[str]:
        return _numbers(columns[name], missing="null")

    device = [
        f'{{"model":{m},"device_score":{s},"os":{o}}}'
        for m, s, o in zip(numbers("device_model"), numbers("device_score"), quoted("device_os"), strict=True)
    ]
    moments = np.datetime_as_string(columns["event_time_ms"].astype("datetime64[ms]"), unit="s").tolist()
    words = ("false", "true")
    return [
        list(map(str, columns["ID_USER"].tolist())),
        quoted("genero"),
        numbers("monto"),
        [f'"{moment}Z"' for moment in moments],
        numbers("hour"),
        device,
        quoted("establecimiento"),
        quoted("ciudad"),
        quoted("tipo_tc"),
        numbers("linea_tc"),
        numbers("interes_tc"),
        quoted("status_txn"),
        [words[int(v)] for v in columns["is_prime"].tolist()],
        numbers("dcto"),
        numbers("cashback"),
        [words[v] for v in columns["fraude"].tolist()],
    ]


Spell = Callable[[Columns, np.random.Generator], list[list[str]]]
Formats = Mapping[str, tuple[Spell, str]]
_PAYLOADS: Formats = {
    "original": (_original, _TEXT_PAYLOAD),
    "plain": (_plain, _TEXT_PAYLOAD),
    "json": (_json, _JSON_PAYLOAD),
}
_CSV: Formats = {"original": (_original, _CSV_LINE), "plain": (_plain, _CSV_LINE)}


def _numbers(column: Array, missing: str = "") -> list[str]:
    # Ten significant digits, as the real file has; none of our numbers is so small that it would get an exponent.
    texts = list(map("%.10g".__mod__, column.tolist()))
    for row in np.flatnonzero(np.isnan(column)).tolist():
        texts[row] = missing
    return texts


def _levels(column: Array, missing: Sequence[str]) -> list[str]:
    return [m if v is None else v for v, m in zip(column.tolist(), missing, strict=True)]


def _any_of(choices: Sequence[str], columns: Columns, rng: np.random.Generator) -> list[str]:
    return [choices[i] for i in rng.integers(0, len(choices), len(columns["fraude"])).tolist()]


def _dates(columns: Columns, write_day: Callable[[datetime], str]) -> list[str]:
    days, which = np.unique(columns["event_time_ms"] // DAY_MS, return_inverse=True)
    texts = [write_day(datetime.fromtimestamp(day * DAY_MS / 1000, UTC)) for day in days.tolist()]
    return [texts[i] for i in which.tolist()]
