"""Encoding and delimiter of a CSV file."""

import codecs
import csv
from io import StringIO
from pathlib import Path
from typing import NamedTuple

from training.data.csv_file import DELIMITERS, byte_order_mark

HEAD_BYTES = 1 << 20  # searched for the delimiter
MAX_SCANNED_BYTES = 1 << 28  # searched for bytes that are not UTF-8
BLOCK_BYTES = 1 << 22
MAX_RECORDS = 300
MIN_CONSISTENT = 0.9  # share of records that have as many fields as the header


class Dialect(NamedTuple):
    """How a CSV file is written, and why this is believed."""

    encoding: str
    delimiter: str
    evidence: tuple[str, ...]
    doubts: tuple[str, ...]


def detect_dialect(path: Path) -> Dialect:
    """Encoding by byte order mark or by trial; delimiter by the number of records that have the header's fields."""
    encoding, evidence, doubts = _encoding(path)
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    text = codecs.getincrementaldecoder(encoding)("replace").decode(head).lstrip("\ufeff")
    whole = len(head) < HEAD_BYTES
    shares = {mark: _consistency(text, mark, whole=whole) for mark in DELIMITERS}
    delimiter = max(DELIMITERS, key=lambda mark: (shares[mark], mark == ","))
    share, columns = shares[delimiter]
    if columns < 2:
        doubts.append("no delimiter splits the header into two columns or more; is this a table?")
        delimiter = ","
    else:
        evidence.append(f"{share:.0%} of the first records have the header's {columns} fields at {delimiter!r}")
        if share < MIN_CONSISTENT:
            doubts.append(f"only {share:.0%} of the first records have as many fields as the header")
    return Dialect(encoding, delimiter, tuple(evidence), tuple(doubts))


def _encoding(path: Path) -> tuple[str, list[str], list[str]]:
    with path.open("rb") as file:
        start = file.read(4096)
    _, marked = byte_order_mark(start)
    if marked is not None:
        encoding = "utf-8-sig" if marked == "utf-8" else marked
        return encoding, [f"the byte order mark of {encoding}"], []
    for encoding, zeros in (("utf-16-le", start[1::2]), ("utf-16-be", start[::2])):
        if zeros and zeros.count(0) > 0.7 * len(zeros):
            return encoding, ["every other byte is zero"], [f"no byte order mark; {encoding} by its zero bytes"]
    offset = _first_byte_outside_utf8(path)
    if offset is None:
        return "utf-8", ["no byte outside UTF-8"], []
    doubt = f"byte {offset} is not UTF-8; cp1252 (Western European) is assumed: check accents in the texts"
    return "cp1252", [], [doubt]


def _first_byte_outside_utf8(path: Path) -> int | None:
    decoder = codecs.getincrementaldecoder("utf-8")()
    scanned = 0
    with path.open("rb") as file:
        while (block := file.read(BLOCK_BYTES)) and scanned < MAX_SCANNED_BYTES:
            pending = len(decoder.getstate()[0])
            try:
                decoder.decode(block)
            except UnicodeDecodeError as error:
                return scanned - pending + error.start
            scanned += len(block)
    return scanned if decoder.getstate()[0] and scanned < MAX_SCANNED_BYTES else None


def _consistency(text: str, delimiter: str, *, whole: bool) -> tuple[float, int]:
    """Share of records with as many fields as the header, and the header's fields. (0, 1) if it is not split."""
    lengths: list[int] = []
    try:
        for record in csv.reader(StringIO(text, newline=""), delimiter=delimiter, strict=True):
            if record:
                lengths.append(len(record))
            if len(lengths) > MAX_RECORDS:
                break
    except csv.Error:  # the sample may end within a quoted field
        pass
    if not whole and len(lengths) <= MAX_RECORDS:
        lengths = lengths[:-1]
    if not lengths or lengths[0] < 2:
        return 0.0, 1
    header, *records = lengths
    return (records.count(header) / len(records) if records else 1.0), header
