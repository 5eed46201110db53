"""Batch scoring: a file of transactions to a file of decisions, in chunks, with the same code as the worker.

Every input row becomes one row of decisions or one row of the rejected file. Rejected rows keep the original fields, so
that the corrected file can be scored again.
"""

import csv
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TextIO

import msgspec
import numpy as np
import pyarrow as pa
from pyarrow import csv as arrow_csv
from pyarrow import parquet

from monitoring.counting.monitored_model import MonitoredModel
from schemas.dataset.declaration import Dataset
from schemas.errors import ConfigError
from schemas.files.atomic_write import atomic_write
from schemas.files.rejected_rows import COLUMNS as REJECTED
from schemas.records import Rejection
from schemas.security.sanitizer import csv_cell, printable
from scoring.decision import OUTCOMES, decision_id, thresholds
from scoring.input.cleaning import CleanedBatch, clean_columns
from scoring.scorer import decide
from training.data.file_reader import CHUNK_ROWS, Chunk, RaggedRow, read_chunks, require_columns

DECISIONS = pa.schema(
    [
        ("row", pa.int64()),  # in the file, from 1
        ("transaction_id", pa.string()),  # as the file declares it, else null
        ("decision_id", pa.string()),  # null where there is no transaction id
        ("event_time_ms", pa.int64()),
        ("score", pa.float64()),
        ("outcome", pa.string()),
        ("threshold", pa.float64()),
        ("reasons", pa.string()),  # JSON, as a decision has them; null for an approval
        ("model", pa.string()),
        ("model_version", pa.int64()),
    ]
)


class BatchResult(msgspec.Struct, frozen=True, kw_only=True):
    """The result of scoring a file."""

    model: str
    model_version: int
    rows: int
    decided: int
    outcomes: dict[str, int]
    rejected: int
    rejections: dict[str, int]  # rows by code
    decisions_file: str
    rejected_file: str | None  # None when every row was decided


def score_file(
    path: Path,
    output: Path,
    dataset: Dataset,
    model: MonitoredModel,
    *,
    read: Callable[[float], None] = lambda share: None,
    chunk_rows: int = CHUNK_ROWS,
) -> BatchResult:
    """Decide every row of a file; both files appear when all of it is decided, and not before.

    output: .csv (UTF-8, separated as the data set's own files are, no cell a spreadsheet's formula) or .parquet, which
    has ids as they came; what is rejected goes beside it, to NAME.rejected.csv, written as the data set's own files
    are. read: told after each chunk how much of the file, in [0, 1], is read.
    Raises ConfigError for an output that cannot be, TrainingError for a file that cannot be read or is not the declared
    data set, ModelIncompatibleError for a model of another data set.
    """
    if output.suffix not in (".csv", ".parquet"):
        raise ConfigError(f"--output {output}: the name must end in .csv or .parquet")
    refused = output.with_suffix(".rejected.csv")
    if path.resolve() in (output.resolve(), refused.resolve()):
        raise ConfigError(f"--output {output}: this would overwrite the input file; use another name")
    outcomes = np.zeros(len(OUTCOMES), dtype=np.int64)
    codes: Counter[str] = Counter()
    rows = 0
    with ExitStack() as stack:
        scratch = stack.enter_context(atomic_write(output))
        decided_to = stack.enter_context(_decision_writer(scratch, output.suffix, dataset))
        rejected_to = _RejectedWriter(stack.enter_context(atomic_write(refused)), dataset, stack)
        for chunk in read_chunks(path, dataset, chunk_rows):
            require_columns(path, dataset, chunk.columns)
            cleaned = clean_columns(dataset, chunk.columns)
            table, found = _decisions(chunk, cleaned, model)
            decided_to.write_table(_for_spreadsheets(table) if output.suffix == ".csv" else table)
            outcomes += found
            rejections = _all_rejections(chunk, cleaned)
            rejected_to.write(chunk, rejections)
            codes.update(rejection.code for rejection, _ in rejections)
            rows += len(chunk.rows) + len(chunk.ragged)
            read(chunk.progress)
    if not codes:
        refused.unlink()
    return BatchResult(
        model=model.manifest.model,
        model_version=model.version,
        rows=rows,
        decided=int(outcomes.sum()),
        outcomes=dict(zip(OUTCOMES, outcomes.tolist(), strict=True)),
        rejected=codes.total(),
        rejections=dict(codes),
        decisions_file=str(output),
        rejected_file=str(refused) if codes else None,
    )


def _decisions(chunk: Chunk, cleaned: CleanedBatch, model: MonitoredModel) -> tuple[pa.Table, Any]:
    decided = decide(model, cleaned)
    n = len(cleaned.rows)
    places = np.asarray(chunk.rows, dtype=np.int64)[cleaned.rows]
    encode = msgspec.json.Encoder().encode
    reasons = np.full(n, None, dtype=object)
    reasons[np.flatnonzero(decided.outcomes)] = [encode(of_row).decode() for of_row in decided.reasons]
    manifest = model.manifest
    columns = {
        "row": places + 1,
        "transaction_id": cleaned.transaction_ids,
        "decision_id": [None if declared is None else decision_id(declared) for declared in cleaned.transaction_ids],
        "event_time_ms": cleaned.event_time_ms,
        "score": decided.scores,
        "outcome": np.asarray(OUTCOMES, dtype=object)[decided.outcomes],
        "threshold": np.asarray(thresholds(manifest.points))[decided.outcomes],
        "reasons": reasons,
        "model": pa.repeat(manifest.model, n),
        "model_version": np.full(n, model.version),
    }
    return pa.table(columns, schema=DECISIONS), np.bincount(decided.outcomes, minlength=len(OUTCOMES))


def _for_spreadsheets(table: pa.Table) -> pa.Table:
    """The table with texts of the input as cells that are no formulas, on one line each."""
    for name in ("transaction_id", "reasons"):
        texts = table.column(name).to_pylist()
        cells = [None if text is None else csv_cell(printable(text)) for text in texts]
        table = table.set_column(table.schema.get_field_index(name), name, pa.array(cells, pa.string()))
    return table


def _all_rejections(chunk: Chunk, cleaned: CleanedBatch) -> list[tuple[Rejection, list[Any]]]:
    """What is rejected of a chunk, by its row in the file, and the row's own fields."""
    found = [
        (msgspec.structs.replace(r, row=chunk.rows[r.row]), [values[r.row] for values in chunk.columns.values()])
        for r in cleaned.rejections
    ]
    found += [(_rejection(ragged, len(chunk.columns)), ragged.fields) for ragged in chunk.ragged]
    return sorted(found, key=lambda pair: pair[0].row)


def _rejection(ragged: RaggedRow, wanted: int) -> Rejection:
    seen = f"{len(ragged.fields)} fields in line {ragged.line}"
    return Rejection(row=ragged.row, code="ragged-row", field=None, value=seen, expected=f"{wanted}, as in the header")


def _decision_writer(path: Path, kind: str, dataset: Dataset) -> Any:
    if kind == ".parquet":
        return parquet.ParquetWriter(path, DECISIONS)
    options = arrow_csv.WriteOptions(delimiter=dataset.csv.delimiter, quoting_header="none")
    return arrow_csv.CSVWriter(path, DECISIONS, write_options=options)


class _RejectedWriter:
    def __init__(self, path: Path, dataset: Dataset, stack: ExitStack) -> None:
        file: TextIO = stack.enter_context(
            # What the encoding has no character for is written as an escape: a reason may hold any.
            path.open("w", encoding=dataset.csv.encoding, errors="backslashreplace", newline="")
        )
        # With this end of a line, a field that holds a return is quoted, too.
        self._to = csv.writer(file, delimiter=dataset.csv.delimiter, lineterminator="\r\n")
        self._kept: list[int] | None = None  # places of the file's own columns, once its header is known

    def write(self, chunk: Chunk, rejections: Sequence[tuple[Rejection, list[Any]]]) -> None:
        if self._kept is None:
            header = list(chunk.columns)
            # A file of rejected rows, mended and scored again, brings these columns along.
            self._kept = [i for i, name in enumerate(header) if name not in REJECTED]
            self._to.writerow([*REJECTED, *(csv_cell(header[i]) for i in self._kept)])
        for r, fields in rejections:
            own = fields if r.code == "ragged-row" else [_as_text(fields[i]) for i in self._kept]
            why = (None if text is None else printable(text) for text in (r.code, r.field, r.value, r.expected))
            cells = (csv_cell(cell) if isinstance(cell, str) else cell for cell in (*why, *own))
            self._to.writerow([r.row + 1, *cells])


def _as_text(value: Any) -> Any:
    """A Parquet file's objects as JSON, which cleaning reads as it reads an object."""
    return msgspec.json.encode(value).decode() if isinstance(value, dict | list) else value
