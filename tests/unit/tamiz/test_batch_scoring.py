"""Batch scoring: the same outcomes as the stream, and every row of the file is written once."""

import csv
import json
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from typer.testing import CliRunner

from monitoring.counting.monitored_model import MonitoredModel
from schemas.configuration.settings import Settings, load
from schemas.dataset.declaration import load_dataset
from schemas.errors import ConfigError, RuleError, TrainingError
from schemas.files.rejected_rows import COLUMNS as REJECTED
from schemas.records import Decision
from schemas.rules import Exploration, Rule, RulesFile
from schemas.security.sanitizer import csv_cell, printable
from scoring.rules.list_state import ListState
from scoring.rules.rule_state import RuleState
from scoring.rules.ruleset import compile_ruleset
from stream_app.decisions.handler import HandlerPolicy, HandlerState, handle
from tamiz.batch.batch_scoring import BatchResult, score_file
from tamiz.batch.file_payloads import file_payloads
from tamiz.main import app
from tests.helpers.traffic.invalid_payloads import payload
from tests.unit.stream_app.decisions.test_handler import records
from training.data.file_reader import read_chunks

DATASET = load_dataset("card_transactions")
POLICY = HandlerPolicy.from_settings(load({}), DATASET, counting=False)


@pytest.fixture(scope="module")
def model(champion_bundle: Path) -> MonitoredModel:
    return MonitoredModel.load(champion_bundle, version=3)


def written(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file, delimiter=DATASET.csv.delimiter))


def streamed(values: list[bytes], model: MonitoredModel) -> list[Decision]:
    handled = handle(records(*values), model, POLICY)
    assert not handled.dead_letters
    return [msgspec.json.decode(out.value or b"", type=Decision) for out in handled.decisions]


def parts(decision: Decision) -> tuple[object, ...]:
    reasons = msgspec.json.encode(decision.reasons).decode() if decision.reasons else None
    d = decision
    return d.event_time_ms, d.score, d.outcome, d.threshold, reasons, d.model, d.model_version


def test_the_real_file_is_decided_bit_for_bit_as_the_stream_decides_it(
    real_csv: Path, real_payloads: list[bytes], champion_bundle: Path, tmp_path: Path
) -> None:
    model = MonitoredModel.load(champion_bundle, version=3)
    # The file's labels are noise, so that the operating points of the training flag no row.
    scores = np.array([d.score for d in streamed(real_payloads[:2000], model)])
    review, decline = np.quantile(scores, [0.9, 0.99]).tolist()
    points = msgspec.structs.replace(model.manifest.points, review=review, decline=decline)
    model = MonitoredModel(model._booster, msgspec.structs.replace(model.manifest, points=points), 3)
    batch = score_file(real_csv, tmp_path / "out.csv", DATASET, model)
    expected = [parts(d) for d in streamed(real_payloads, model)]
    found = [
        (
            int(row["event_time_ms"]),
            float(row["score"]),
            row["outcome"],
            float(row["threshold"]),
            row["reasons"] or None,
            row["model"],
            int(row["model_version"]),
        )
        for row in written(tmp_path / "out.csv")
    ]
    assert found == expected
    assert (batch.rows, batch.decided, batch.rejected_file) == (len(expected), len(expected), None)
    assert min(batch.outcomes[outcome] for outcome in ("approve", "review", "decline")) > 0


def test_parquet_in_and_out_gives_the_stream_decisions_with_their_ids_however_it_is_cut(
    model: MonitoredModel, tmp_path: Path
) -> None:
    objects = [json.loads(payload(transaction_id=f"t-{i}", monto=float(i))) for i in range(25)]
    parquet.write_table(pa.Table.from_pylist(objects), tmp_path / "in.parquet")
    score_file(tmp_path / "in.parquet", tmp_path / "out.parquet", DATASET, model, chunk_rows=7)
    expected = streamed([json.dumps(o).encode() for o in objects], model)
    rows = parquet.read_table(tmp_path / "out.parquet").to_pylist()
    assert [(r["row"], r["transaction_id"], r["decision_id"]) for r in rows] == [
        (i, d.transaction_id, d.decision_id) for i, d in enumerate(expected, 1)
    ]
    names = ("event_time_ms", "score", "outcome", "threshold", "reasons", "model", "model_version")
    assert [tuple(r[name] for name in names) for r in rows] == [parts(d) for d in expected]


RULES = RulesFile(
    rules=(
        Rule(id="large", version=1, when="monto > 5", effect="challenge", reason="large", mode="live"),
        Rule(id="largest", version=2, when="monto > 15", effect="decline", reason="=largest", mode="live"),
        Rule(id="tried", version=1, when="hour >= 0", effect="block", reason="a trial", mode="shadow"),
    ),
    explore=Exploration(share=0.5, below=1_000.0, seed="s"),
)


def test_with_rules_a_file_is_decided_as_the_stream_decides_it_with_these_rules_and_no_lists(
    model: MonitoredModel, tmp_path: Path
) -> None:
    objects = [json.loads(payload(transaction_id=f"t-{i}", monto=float(i))) for i in range(25)]
    parquet.write_table(pa.Table.from_pylist(objects), tmp_path / "in.parquet")
    compiled = compile_ruleset(RULES, DATASET)
    batch = score_file(tmp_path / "in.parquet", tmp_path / "out.parquet", DATASET, model, rules=compiled, chunk_rows=7)
    state = HandlerState(rules=RuleState(None, compiled, ListState()))
    handled = handle(records(*(json.dumps(o).encode() for o in objects)), model, POLICY, state)
    expected = [msgspec.json.decode(out.value or b"", type=Decision) for out in handled.decisions]
    rows = parquet.read_table(tmp_path / "out.parquet").to_pylist()
    assert [(r["outcome"], r["model_outcome"], r["decided_by"], r["matches"]) for r in rows] == [
        (d.outcome, d.model_outcome, d.decided_by, msgspec.json.encode(d.matches).decode()) for d in expected
    ]
    assert {d.decided_by for d in expected} == {"model", "rule", "exploration"}
    assert batch.outcomes == handled.outcomes


def test_rules_that_do_not_compile_are_refused_before_a_row_is_read(tmp_path: Path) -> None:
    rule = {"id": "a", "version": 1, "when": "no > 1", "effect": "review", "reason": "r"}
    (tmp_path / "rules.toml").write_bytes(msgspec.toml.encode({"rules": [rule]}))
    command = ["score", "nofile.csv", "--rules", str(tmp_path / "rules.toml"), "-o", str(tmp_path / "out.csv")]
    result = CliRunner().invoke(app, command)
    assert isinstance(result.exception, RuleError), result.exception
    assert "rule 'a', column 1" in str(result.exception)


HEADER = "transaction_id;ID_USER;monto;fecha;hora;ciudad"


def test_what_is_rejected_stands_beside_with_why_and_once_mended_is_scored(
    model: MonitoredModel, tmp_path: Path
) -> None:
    lines = ["a;1;12,5;5/01/2020;3;Merida", "b;1;lots;5/01/2020;3;Merida", "c;1;7;5/01/2020;3", "d;1;8;5/01/2020;25;x"]
    (tmp_path / "in.csv").write_text("\n".join([HEADER, *lines[:2], "", *lines[2:]]) + "\n", encoding="utf-8")
    out, rejected = tmp_path / "out.csv", tmp_path / "out.rejected.csv"
    batch = score_file(tmp_path / "in.csv", out, DATASET, model, chunk_rows=2)
    assert [(r["row"], r["transaction_id"]) for r in written(out)] == [("1", "a")]
    assert (batch.rows, batch.decided, batch.rejected_file) == (4, 1, str(rejected))
    assert batch.rejections == {"not-a-number": 1, "ragged-row": 1, "out-of-range": 1}
    assert [[r[name] for name in REJECTED] for r in written(rejected)] == [
        ["2", "3", "not-a-number", "monto", "lots", "a finite number such as 12.5 or 12,5"],
        ["3", "5", "ragged-row", "", "5 fields", "6, as in the header"],
        ["4", "6", "out-of-range", "hora", "25", "a number of at most 23"],
    ]

    header, second, *_ = rejected.read_text(encoding="utf-8-sig").splitlines()
    (tmp_path / "mended.csv").write_text(f"{header}\n{second.replace(';b;1;lots', ';b;1;9')}\n", encoding="utf-8")
    score_file(tmp_path / "mended.csv", tmp_path / "again.csv", DATASET, model)
    assert [r["transaction_id"] for r in written(tmp_path / "again.csv")] == ["b"]


def test_no_cell_is_a_formula_and_a_rejected_row_is_read_again_as_it_was(model: MonitoredModel, tmp_path: Path) -> None:
    odd = ['=HYPERLINK("http://x","y")', "'=1", "-5", "a\n\r=1", "\r=1\t", "@x", "b;=2", "\x1b[2J", ""]
    rows = [[text, "1", amount, "5/01/2020", "3", text] for text in odd for amount in ("9", "-")]
    with (tmp_path / "in.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=";").writerows([HEADER.split(";"), *rows])
    out, rejected = tmp_path / "out.csv", tmp_path / "out.rejected.csv"
    assert score_file(tmp_path / "in.csv", out, DATASET, model).rejected == len(odd)
    ids = [row["transaction_id"] for row in written(out)]
    assert ids == [csv_cell(printable(text)) for text in odd]
    assert [text for text in ids if text.lstrip().startswith(("=", "@"))] == []

    (chunk,) = [c for c in read_chunks(rejected, DATASET) if c.rows]
    assert [chunk.columns["transaction_id"], chunk.columns["ciudad"]] == [odd, odd]
    assert [json.loads(p)["ciudad"] for p in file_payloads(rejected, DATASET)] == odd
    assert score_file(rejected, tmp_path / "again.csv", DATASET, model).rejected == len(odd)
    assert (tmp_path / "again.rejected.csv").read_bytes().count(b"HYPERLINK") == 2


def test_a_rejected_row_of_parquet_keeps_its_types_and_once_corrected_is_scored(
    model: MonitoredModel, tmp_path: Path
) -> None:
    objects = [json.loads(payload(hora="25")), json.loads(payload())]
    objects[0]["dispositivo"] = objects[1]["dispositivo"] = {"model": 2020, "device_score": 3, "os": "WEB"}
    parquet.write_table(pa.Table.from_pylist(objects), tmp_path / "in.parquet")
    score_file(tmp_path / "in.parquet", tmp_path / "out.csv", DATASET, model)
    (rejected,) = map(json.loads, (tmp_path / "out.rejected.jsonl").read_text().splitlines())
    assert {name: rejected.pop(name) for name in REJECTED} == {
        "rejected_row": 1,
        "rejected_line": None,
        "rejected_code": "out-of-range",
        "rejected_field": "hora",
        "rejected_value": "25",
        "rejected_expected": "a number of at most 23",
    }
    assert rejected == objects[0]
    (tmp_path / "corrected.jsonl").write_text(json.dumps(rejected | {"hora": 20}))
    batch = score_file(tmp_path / "corrected.jsonl", tmp_path / "again.csv", DATASET, model)
    assert batch.decided == 1
    first, second = written(tmp_path / "again.csv")[0], written(tmp_path / "out.csv")[0]
    assert first["score"] == second["score"]


def test_a_file_that_turns_out_not_to_be_one_leaves_nothing_behind(model: MonitoredModel, tmp_path: Path) -> None:
    good = "\n".join(["a;1;12,5;5/01/2020;3;Merida"] * 50)
    (tmp_path / "in.csv").write_bytes(f"{HEADER}\n{good}\n".encode() + b"b;1;1;5/01/2020;3;\xff\xfe\n")
    with pytest.raises(TrainingError, match="not a CSV file"):
        score_file(tmp_path / "in.csv", tmp_path / "out.csv", DATASET, model, chunk_rows=10)
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


def test_a_field_that_is_too_long_is_refused_in_one_line_that_names_its_line(
    model: MonitoredModel, tmp_path: Path
) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("ID_USER;monto;fecha;hora\n1;2;5/01/2020;3\n1;" + "9" * 200_000 + ";5/01/2020;3\n")
    with pytest.raises(TrainingError, match=r"rows\.csv: line 3: a field has more than 131072 characters; shorten it"):
        score_file(file, tmp_path / "out.csv", DATASET, model)
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]


def test_a_file_of_json_lines_is_scored_as_the_stream_scores_its_lines(model: MonitoredModel, tmp_path: Path) -> None:
    lines = [payload(transaction_id="a"), b"{", payload(transaction_id="b", monto="x"), payload(transaction_id="c")]
    (tmp_path / "in.jsonl").write_bytes(b"\n".join(lines))
    batch = score_file(tmp_path / "in.jsonl", tmp_path / "out.parquet", DATASET, model)
    handled = handle(records(*lines), model, POLICY)
    assert batch.decided == len(handled.decisions) == 2
    headers = [dict(out.headers) for out in handled.dead_letters]
    codes = [header["tamiz-error-code"].decode() for header in headers]
    rejected = [json.loads(line) for line in (tmp_path / "out.rejected.jsonl").read_text().splitlines()]
    assert [(r["rejected_line"], r["rejected_code"]) for r in rejected] == list(zip([2, 3], codes, strict=True))
    assert rejected[1]["transaction_id"] == "b"


def test_outputs_that_cannot_be_are_refused(model: MonitoredModel, tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_text(HEADER + "\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="overwrite"):
        score_file(source, source, DATASET, model)
    with pytest.raises(ConfigError, match=r"\.csv or \.parquet"):
        score_file(source, tmp_path / "out.xlsx", DATASET, model)


def test_the_command_says_where_everything_went(
    real_registry: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAMIZ_STATE_DIR", str(real_registry.state_dir))
    (tmp_path / "in.csv").write_text(f"{HEADER}\na;1;12,5;5/01/2020;3;Merida\nb;1;;5/01/2020;3;x\n", encoding="utf-8")
    shown = CliRunner().invoke(app, ["score", str(tmp_path / "in.csv"), "-o", str(tmp_path / "out.csv")])
    assert shown.exit_code == 0, shown.output
    assert "rejected: 1 rows (missing-field 1)" in shown.stdout
    told = CliRunner().invoke(app, ["score", str(tmp_path / "in.csv"), "-o", str(tmp_path / "out.csv"), "--json"])
    assert msgspec.json.decode(told.stdout, type=BatchResult).decided == 1


def test_the_command_warns_of_missing_columns_and_fails_if_every_row_is_rejected(
    real_registry: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAMIZ_STATE_DIR", str(real_registry.state_dir))
    header = HEADER.replace("ciudad", "Ciudad")
    (tmp_path / "in.csv").write_text(f"{header}\na;1;;5/01/2020;3;Merida\nb;1;;5/01/2020;3;x\n", encoding="utf-8")
    done = CliRunner().invoke(app, ["score", str(tmp_path / "in.csv"), "-o", str(tmp_path / "out.csv"), "--json"])
    assert isinstance(done.exception, TrainingError)
    assert "all 2 rows are rejected, most for missing-field of monto, first in line 2" in str(done.exception)
    assert "'Ciudad' looks like ciudad" in " ".join(done.stderr.split())
    missing = {column.name for column in msgspec.json.decode(done.stdout, type=BatchResult).missing_columns}
    assert "ciudad" in missing
    assert (tmp_path / "out.rejected.csv").exists()
