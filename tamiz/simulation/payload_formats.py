"""Formats of simulated transactions: the card data set's own inconsistent format, and cleaner ones.

original: decimal comma, unpadded day, "Física" encoded twice, `;` inside `dispositivo`, four spellings of missing.
plain: decimal point, ISO dates, a Python dictionary, True/False. json: numbers, booleans, null, a nested object, a
full timestamp. mixed: each row in one of the three, at random. CSV files can hold the first two.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from schemas.errors import ConfigError
from schemas.time_units import DAY_MS
from scoring.arrays import Array, Columns
from tamiz.simulation.invalid_payloads import invalidate_some
from tamiz.simulation.simulator import SimulatedTransactions, Traffic, random_streams, simulate
from training.data.json_lines import JSON_SUFFIXES

FIELDS = (
    *("ID_USER", "genero", "monto", "fecha", "hora", "dispositivo", "establecimiento", "ciudad", "tipo_tc"),
    *("linea_tc", "interes_tc", "status_txn", "is_prime", "dcto", "cashback", "fraude"),
)
CHUNK_ROWS = 50_000  # rows rendered at once; changing it changes what a seed produces
TWICE_ENCODED = "Física".encode().decode("latin-1")

_TEXT_PAYLOAD = "{" + ",".join(f'"{name}":"%s"' for name in FIELDS) + "}"
_JSON_PAYLOAD = "{" + ",".join(f'"{name}":%s' for name in FIELDS) + "}"
_CSV_LINE = ";".join('"%s"' if name == "dispositivo" else "%s" for name in FIELDS)


def payloads(traffic: Traffic, simulated: SimulatedTransactions) -> Iterator[tuple[list[bytes], list[bytes]]]:
    """Yield keys and JSON payloads for the topic, `CHUNK_ROWS` at a time, in event order.

    The key is the card holder's id as text, also for an invalid payload.
    """
    format_rng, invalid_rng = _generators(traffic)
    for chunk in _chunks(simulated):
        keys = [str(user).encode() for user in chunk["ID_USER"].tolist()]
        lines = _lines(chunk, traffic.payload_format, _PAYLOADS, format_rng)
        yield keys, invalidate_some([line.encode() for line in lines], traffic.invalid_share, invalid_rng)


def keyed_payloads(traffic: Traffic) -> Iterator[tuple[bytes, bytes]]:
    """Key and JSON payload of each transaction of simulated traffic, in event order."""
    for keys, values in payloads(traffic, simulate(traffic)):
        yield from zip(keys, values, strict=True)


def write(traffic: Traffic, simulated: SimulatedTransactions, path: Path) -> None:
    """Write a CSV (`.csv`) or JSON lines (any other name).

    Raises ConfigError if a CSV file cannot hold the format or invalid payloads.
    """
    if path.suffix.lower() == ".csv":
        _write_csv(traffic, simulated, path)
        return
    if path.suffix.lower() not in JSON_SUFFIXES:
        raise ConfigError(f"{path}: the name must end in .csv or in one of {', '.join(JSON_SUFFIXES)}, for JSON lines")
    with path.open("wb") as file:
        for _, values in payloads(traffic, simulated):
            file.write(b"\n".join(values) + b"\n")


def _write_csv(traffic: Traffic, simulated: SimulatedTransactions, path: Path) -> None:
    if traffic.payload_format == "json":
        raise ConfigError(f"{path}: a CSV file cannot hold the format json; name the file .jsonl")
    if traffic.invalid_share:
        raise ConfigError(f"{path}: a CSV file cannot hold invalid payloads; name the file .jsonl")
    format_rng, _ = _generators(traffic)
    encoding, end = ("utf-8", "\n") if traffic.payload_format == "plain" else ("utf-8-sig", "\r\n")
    with path.open("w", encoding=encoding, newline="") as file:
        file.write(";".join(FIELDS) + end)
        for chunk in _chunks(simulated):
            file.write(end.join(_lines(chunk, traffic.payload_format, _CSV, format_rng)) + end)


def _generators(traffic: Traffic) -> tuple[np.random.Generator, np.random.Generator]:
    format_seed, invalid_seed = random_streams(traffic)[-1].spawn(2)
    return np.random.default_rng(format_seed), np.random.default_rng(invalid_seed)


def _chunks(simulated: SimulatedTransactions) -> Iterator[Columns]:
    columns = {**simulated.columns, "event_time_ms": simulated.event_time_ms, "fraude": simulated.labels}
    for start in range(0, len(simulated.labels), CHUNK_ROWS):
        yield {name: column[start : start + CHUNK_ROWS] for name, column in columns.items()}


def _lines(columns: Columns, payload_format: str, formats: "Formats", rng: np.random.Generator) -> Sequence[str]:
    if payload_format != "mixed":
        render, template = formats[payload_format]
        return list(map(template.__mod__, zip(*render(columns, rng), strict=True)))
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
        # One replacement over the joined text takes a tenth of the time of one per value.
        return ";".join(texts).replace(".", ",").split(";") if comma else texts

    words = booleans.split()
    # A missing city has one spelling per card holder; a missing merchant has a random one.
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


Render = Callable[[Columns, np.random.Generator], list[list[str]]]
Formats = Mapping[str, tuple[Render, str]]
_PAYLOADS: Formats = {
    "original": (_original, _TEXT_PAYLOAD),
    "plain": (_plain, _TEXT_PAYLOAD),
    "json": (_json, _JSON_PAYLOAD),
}
_CSV: Formats = {"original": (_original, _CSV_LINE), "plain": (_plain, _CSV_LINE)}


def _numbers(column: Array, missing: str = "") -> list[str]:
    # Ten significant digits, as in the real file; no simulated number is small enough for an exponent.
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
