"""Simulated transactions at terminals and their late labels, as files and as records of the topics."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np

from schemas.errors import ConfigError
from scoring.arrays import Ints
from tamiz.simulation.terminal_simulator import TerminalTransactions, transaction_ids
from training.data.json_lines import JSON_SUFFIXES

FIELDS = ("transaction_id", "card", "terminal", "amount", "time", "fraud")
LABEL_FIELDS = ("transaction_id", "fraud", "reported_at")

_TRANSACTION = '{"transaction_id":"%s","card":"c%d","terminal":"t%d","amount":%.2f,"time":"%s"}'
_LABELLED = _TRANSACTION[:-1] + ',"fraud":%s}'


def keyed_transactions(some: TerminalTransactions) -> Iterator[tuple[bytes, bytes]]:
    """Key and payload of each transaction for the topic, in event order; without labels, which are reported later."""
    ids, times = transaction_ids(some), _times(some.event_time_ms)
    values = (ids, some.cards.tolist(), some.terminals.tolist(), some.amounts.tolist(), times)
    for row in zip(*values, strict=True):
        yield b"c%d" % row[1], (_TRANSACTION % row).encode()


def keyed_labels(some: TerminalTransactions) -> Iterator[tuple[bytes, bytes]]:
    """Key and record of each label for the topic, in the order in which they are reported."""
    ids = transaction_ids(some)
    for row in np.argsort(some.reported_at_ms, kind="stable").tolist():
        label = {
            "transaction_id": ids[row],
            "fraud": bool(some.labels[row]),
            "reported_at_ms": int(some.reported_at_ms[row]),
            "event_time_ms": int(some.event_time_ms[row]),
            "entities": {"card": f"c{some.cards[row]}", "terminal": f"t{some.terminals[row]}"},
        }
        yield ids[row].encode(), msgspec.json.encode(label)


def write_transactions(some: TerminalTransactions, path: Path) -> None:
    """Write the labelled transactions: a CSV (`.csv`) or JSON lines (`.jsonl`, `.ndjson`, `.json`).

    Raises ConfigError for another name.
    """
    is_csv = path.suffix.lower() == ".csv"
    if not is_csv and path.suffix.lower() not in JSON_SUFFIXES:
        raise ConfigError(f"{path}: the name must end in .csv or in one of {', '.join(JSON_SUFFIXES)}, for JSON lines")
    line = "%s,c%d,t%d,%.2f,%s,%s" if is_csv else _LABELLED
    words = np.where(some.labels, "true", "false").tolist()
    values = (transaction_ids(some), some.cards.tolist(), some.terminals.tolist(), some.amounts.tolist())
    rows = zip(*values, _times(some.event_time_ms), words, strict=True)
    _write_lines(path, FIELDS if is_csv else (), map(line.__mod__, rows))


def write_labels(some: TerminalTransactions, path: Path) -> None:
    """Write a CSV of the labels and when they are reported, in this order."""
    order = np.argsort(some.reported_at_ms, kind="stable")
    ids, words = transaction_ids(some), np.where(some.labels, "true", "false")
    rows = zip([ids[i] for i in order.tolist()], words[order].tolist(), _times(some.reported_at_ms[order]), strict=True)
    _write_lines(path, LABEL_FIELDS, map("%s,%s,%s".__mod__, rows))


def _write_lines(path: Path, head: tuple[str, ...], lines: Iterator[str]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        if head:
            file.write(",".join(head) + "\n")
        file.writelines(f"{line}\n" for line in lines)


def _times(times_ms: Ints) -> list[str]:
    return [f"{text}Z" for text in np.datetime_as_string(times_ms.astype("datetime64[ms]"), unit="s").tolist()]
