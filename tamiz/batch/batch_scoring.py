"""Batch scoring: reads a file of transactions and writes a file of decisions, in chunks, with the worker's code.

Every input row becomes one row of decisions or one row of the rejected file. Rejected rows keep the original fields, so
that the corrected file can be scored again.
"""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from pyarrow import csv as arrow_csv
from pyarrow import parquet

from monitoring.counting.monitored_model import MonitoredModel
from schemas.dataset.declaration import Dataset
from schemas.dataset.missing_columns import MissingColumn
from schemas.errors import ConfigError
from schemas.files.atomic_write import atomic_write
from schemas.security.sanitizer import csv_cell, printable
from scoring.bundle.declaration_match import check_declaration
from scoring.decision import DECIDERS, OUTCOMES, decision_id, thresholds
from scoring.input.cleaning import CleanedBatch
from scoring.rules.list_state import ListState
from scoring.rules.rule_decision import RuleContext
from scoring.rules.rule_state import RuleState
from scoring.rules.ruleset import CompiledRuleset
from scoring.scorer import decide
from tamiz.batch.rejected_file import rejected_path, rejected_rows
from training.data.chunk import RejectionReasons, clean_chunk
from training.data.column_presence import ColumnPresence
from training.data.file_profiles import FileProgress, ProfileFiles
from training.data.file_reader import CHUNK_ROWS, file_format, read_chunks
from training.data.label_file import LabelCounts

DECISIONS = pa.schema(
    [
        ("row", pa.int64()),  # in the file, from 1
        ("transaction_id", pa.string()),  # of the file, else null
        ("decision_id", pa.string()),  # null without a transaction id
        ("event_time_ms", pa.int64()),
        ("score", pa.float64()),
        ("outcome", pa.string()),
        ("model_outcome", pa.string()),
        ("decided_by", pa.string()),
        ("matches", pa.string()),  # JSON, as in a decision; null without a match
        ("threshold", pa.float64()),
        ("reasons", pa.string()),  # JSON, as in a decision; null if the model approves
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
    commonest_rejection: str | None  # the most frequent reason, with its first value
    missing_columns: tuple[MissingColumn, ...]  # declared columns that the file lacks
    late_labels: LabelCounts | None  # of a file of late labels
    decisions_file: str
    rejected_file: str | None  # None if every row was decided


def score_file(
    path: Path,
    output: Path,
    dataset: Dataset,
    model: MonitoredModel,
    *,
    files: ProfileFiles = ProfileFiles(),  # noqa: B008
    write_profiles: bool = False,
    rules: CompiledRuleset | None = None,
    progress: FileProgress = lambda step, share: None,
    chunk_rows: int = CHUNK_ROWS,
) -> BatchResult:
    """Decide every row of a file. Both output files appear only after all rows are decided.

    With profiles, the file is read twice: all rows are folded in order of event time, after those of `files`, before
    the first one is decided. The order of the file's rows and the size of the chunks do not matter.

    output: .csv (UTF-8, with the data set's delimiter, formulas of spreadsheets escaped) or .parquet (ids unchanged).
    Rejected rows are written next to it (`rejected_file`). write_profiles: also write the values of the profile
    features, empty where missing. rules: decide with the model; lists are empty. progress: called with a step and the
    share of it that is done, in [0, 1].
    Raises ConfigError for an invalid output, TrainingError for a file that cannot be read or is not the declared data
    set, ModelIncompatibleError for a model that does not fit the declaration.
    """
    check_declaration(model.manifest, dataset, model.version)
    if output.suffix not in (".csv", ".parquet"):
        raise ConfigError(f"--output {output}: the name must end in .csv or .parquet")
    form = file_format(path)
    refused = rejected_path(output, form)
    if path.resolve() in (output.resolve(), refused.resolve()):
        raise ConfigError(f"--output {output}: this would overwrite the input file; use another name")
    for earlier in (files.history, files.labels):
        if earlier is not None and earlier.resolve() in (output.resolve(), refused.resolve()):
            raise ConfigError(f"--output {output}: this would overwrite {earlier}; use another name")
    in_force = None if rules is None else RuleState(None, rules, ListState())
    profiles, late_labels = files.columns_of_file(path, dataset, progress)
    shown = profiles.names if write_profiles else ()
    schema = pa.schema([*DECISIONS, *((name, pa.float32()) for name in shown)])
    outcomes = np.zeros(len(OUTCOMES), dtype=np.int64)
    reasons = RejectionReasons()
    presence = ColumnPresence(dataset)
    rows = 0
    with ExitStack() as stack:
        scratch = stack.enter_context(atomic_write(output))
        decided_to = stack.enter_context(_decision_writer(scratch, output.suffix, dataset, schema))
        write_rejected = stack.enter_context(rejected_rows(refused, form, dataset))
        for chunk in presence.watch(read_chunks(path, dataset, chunk_rows)):
            cleaned = profiles.add_to(clean_chunk(dataset, chunk))
            table, found = _decisions(cleaned, model, dataset, in_force)
            for name in shown:
                table = table.append_column(
                    schema.field(name), pa.array(cleaned.columns[name], pa.float32(), from_pandas=True)
                )
            decided_to.write_table(_for_spreadsheets(table) if output.suffix == ".csv" else table)
            outcomes += found
            write_rejected(chunk, cleaned.rejections)
            reasons.update(cleaned.rejections, chunk)
            rows += cleaned.n
            progress("scoring", chunk.progress)
    decided, codes = int(outcomes.sum()), reasons.codes
    if not codes:
        refused.unlink()
    return BatchResult(
        model=model.manifest.model,
        model_version=model.version,
        rows=rows,
        decided=decided,
        outcomes=dict(zip(OUTCOMES, outcomes.tolist(), strict=True)),
        rejected=rows - decided,
        rejections=codes,
        commonest_rejection=reasons.commonest,
        missing_columns=presence.missing(),
        late_labels=late_labels,
        decisions_file=str(output),
        rejected_file=str(refused) if codes else None,
    )


def _decisions(
    cleaned: CleanedBatch, model: MonitoredModel, dataset: Dataset, rules: RuleState | None
) -> tuple[pa.Table, Any]:
    # A row without an id is drawn for exploration by its number.
    ids = [declared or f"row {row + 1}" for declared, row in zip(cleaned.transaction_ids, cleaned.rows, strict=True)]
    decided = decide(model, cleaned, None if rules is None else RuleContext(rules, dataset, ids))
    ruling, n = decided.ruling, len(cleaned.rows)
    encode = msgspec.json.Encoder().encode
    reasons, matches = np.full(n, None, dtype=object), np.full(n, None, dtype=object)
    for row in np.flatnonzero(np.diff(ruling.matches.ends, prepend=0)).tolist():
        matches[row] = encode(ruling.matches.of_row(row)).decode()
    reasons[np.flatnonzero(decided.model_outcomes)] = [encode(of_row).decode() for of_row in decided.reasons]
    manifest = model.manifest
    columns = {
        "row": cleaned.rows + 1,
        "transaction_id": cleaned.transaction_ids,
        "decision_id": [None if declared is None else decision_id(declared) for declared in cleaned.transaction_ids],
        "event_time_ms": cleaned.event_time_ms,
        "score": decided.scores,
        "outcome": np.asarray(OUTCOMES, dtype=object)[ruling.outcomes],
        "model_outcome": np.asarray(OUTCOMES, dtype=object)[decided.model_outcomes],
        "decided_by": np.asarray(DECIDERS, dtype=object)[ruling.deciders],
        "matches": matches,
        "threshold": np.asarray(thresholds(manifest.points))[decided.model_outcomes],
        "reasons": reasons,
        "model": pa.repeat(manifest.model, n),
        "model_version": np.full(n, model.version),
    }
    return pa.table(columns, schema=DECISIONS), np.bincount(ruling.outcomes, minlength=len(OUTCOMES))


def _for_spreadsheets(table: pa.Table) -> pa.Table:
    """The table with texts of the input on one line, escaped so that no cell is a formula."""
    for name in ("transaction_id", "matches", "reasons"):
        texts = table.column(name).to_pylist()
        cells = [None if text is None else csv_cell(printable(text)) for text in texts]
        table = table.set_column(table.schema.get_field_index(name), name, pa.array(cells, pa.string()))
    return table


def _decision_writer(path: Path, kind: str, dataset: Dataset, schema: pa.Schema) -> Any:
    if kind == ".parquet":
        return parquet.ParquetWriter(path, schema)
    options = arrow_csv.WriteOptions(delimiter=dataset.csv.delimiter, quoting_header="none")
    return arrow_csv.CSVWriter(path, schema, write_options=options)
