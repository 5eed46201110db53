"""Reads files of JSON lines: each line is decoded as a payload of the topic is."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import msgspec

from schemas.dataset.declaration import Dataset
from schemas.errors import TrainingError
from scoring.input.decoding import decode_payloads
from scoring.input.value_parsing import Fault
from training.data.chunk import Chunk, UnreadableRow
from training.data.csv_file import byte_order_mark

JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")
MAX_LINE_BYTES = 65_536  # a longer line is rejected as `too-large`, as a payload of this size is by default
MAX_NAMES = 1_000  # of columns: undeclared names beyond these are not remembered


def json_lines(path: Path, longest: int | None = None) -> Iterator[bytes]:
    """The lines of a file, without line ends and the file's byte order mark.

    longest: a line with more bytes is cut to one byte more. None: lines are never cut.
    Raises TrainingError when the file is not UTF-8 by its byte order mark.
    """
    with path.open("rb") as file:
        mark, encoding = byte_order_mark(file.read(4))
        if encoding not in (None, "utf-8"):
            raise TrainingError(f"{path}: JSON lines in {encoding}, by the byte order mark; save the file as UTF-8")
        file.seek(len(mark))
        if longest is None:
            for line in file:
                yield line.removesuffix(b"\n").removesuffix(b"\r")
            return
        while line := file.readline(longest + 2):
            kept = line
            while line and not line.endswith(b"\n"):
                line = file.readline(longest)
            yield kept.removesuffix(b"\n").removesuffix(b"\r")


def json_chunks(path: Path, dataset: Dataset, size: int) -> Iterator[Chunk]:
    """Yield the file in chunks of at most `size` rows, with the declared columns."""
    length = max(1, path.stat().st_size)
    lines = json_lines(path, MAX_LINE_BYTES)
    names: dict[str, None] = {}
    row, read = 0, 0
    while (payloads := list(islice(lines, size))) or not row:
        decoded = decode_payloads(dataset.field_names, payloads, MAX_LINE_BYTES)
        first, row = row, row + len(payloads)
        rows = [first + i for i in decoded.rows]
        objects = [payloads[i] for i in decoded.rows]
        if not names.keys() >= set(dataset.field_names):
            _collect_names(names, objects, dataset.field_names)
        read += sum(map(len, payloads)) + len(payloads)
        yield Chunk(
            rows=rows,
            lines=[r + 1 for r in rows],
            columns={name: list(values) for name, values in decoded.columns.items()},
            unreadable=[_unreadable(first + i, fault) for i, fault in sorted(decoded.faults.items())],
            names=tuple(names),
            payloads=objects,
            progress=min(1.0, read / length),
        )
        if not payloads:
            return


def _unreadable(row: int, fault: Fault) -> UnreadableRow:
    if fault.code == "too-large":
        fault = fault._replace(value=f"more than {MAX_LINE_BYTES} bytes")  # the line was cut
    return UnreadableRow(row, row + 1, fault, [])


def _collect_names(names: dict[str, None], objects: list[bytes], declared: tuple[str, ...]) -> None:
    decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
    for payload in objects:
        for name in decode(payload):
            if name in declared or len(names) < MAX_NAMES:
                names[name] = None
