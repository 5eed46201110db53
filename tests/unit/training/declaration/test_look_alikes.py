"""Look-alikes of five public data sets are drafted, declared, checked, trained and scored, without any Python."""

import os
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from typer.testing import CliRunner

from schemas.configuration.settings import Settings, load
from schemas.dataset.declaration import load_dataset
from schemas.errors import TrainingError
from tamiz.batch.batch_scoring import score_file
from tamiz.main import app
from tests.helpers.traffic import public_look_alikes
from tests.helpers.traffic.public_look_alikes import LOOK_ALIKES, ROWS, write_look_alike
from training.declaration.declaration_check import check_declaration
from training.pipeline import train
from training.registry.model_loader import registered_model

# The suite trains two of them, `make look-alikes` all: one with its date in parts, one with offsets and without a key.
TRAINED = os.environ.get("TAMIZ_LOOK_ALIKES", "tabformer ulb").split()
DECLARATIONS = Path(public_look_alikes.__file__).parent / "declarations"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of one registry for all of them."""
    return msgspec.structs.replace(load({}), state_dir=tmp_path_factory.mktemp("public"))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("files")
    return {name: write_look_alike(name, folder) for name in LOOK_ALIKES}


# What a draft has, without any help; the names of the doubts that it must state.
DRAFTS: dict[str, tuple[dict[str, Any], dict[str, Any], set[str]]] = {
    "paysim": (
        {"key": "nameOrig", "label": "isFraud", "amount": "amount", "decimal": "."},
        {"date": "step", "formats": ["offset_h"]},
        {"key", "label", "event_time", "newbalanceOrig", "newbalanceDest", "isFlaggedFraud"},
    ),
    "sparkov": (
        {"key": "cc_num", "transaction_id": "trans_num", "label": "is_fraud", "amount": "amt", "decimal": "."},
        {"date": "trans_date_trans_time", "zone": "UTC"},
        {"event_time"},
    ),
    "tabformer": (
        {"key": "User", "label": "Is Fraud?", "amount": "Amount", "decimal": "."},
        {"date": ["Year", "Month", "Day", "Time"], "formats": ["%Y %m %d %H:%M"]},
        {"event_time", "key"},
    ),
    "ulb": (
        {"key": "", "label": "Class", "amount": "Amount", "decimal": "."},
        {"date": "Time", "formats": ["offset_s"]},
        {"key", "event_time"},
    ),
    "ieee": (
        {"key": "card1", "transaction_id": "TransactionID", "label": "isFraud", "amount": "TransactionAmt"},
        {"date": "TransactionDT", "formats": ["offset_s"]},
        {"event_time"},
    ),
}


class WrittenDraft(NamedTuple):
    """What `tamiz declare` wrote and printed."""

    path: Path
    output: str


@pytest.fixture(scope="module")
def drafts(files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, WrittenDraft]:
    folder = tmp_path_factory.mktemp("drafts")
    written = {}
    for name, path in files.items():
        done = CliRunner().invoke(app, ["declare", str(path), "--output", str(folder / f"{name}.toml")])
        assert done.exit_code == 0, done.output
        written[name] = WrittenDraft(folder / f"{name}.toml", done.output)
    return written


@pytest.mark.parametrize("name", LOOK_ALIKES)
def test_a_draft_has_roles_marks_and_formats_and_says_what_it_doubts(
    name: str, drafts: dict[str, WrittenDraft]
) -> None:
    path, output = drafts[name]
    values = tomllib.loads(path.read_text())
    roles, event_time, doubts = DRAFTS[name]
    assert {key: values[key] for key in roles} == roles
    assert {key: values["event_time"][key] for key in event_time} == event_time
    assert {line.split(": ")[1] for line in output.splitlines() if line.startswith("doubt: ")} == doubts
    assert f"then: tamiz declare --check {path}" in output
    dataset = load_dataset(str(path))
    assert dataset.label not in {feature.name for feature in dataset.features}


@pytest.mark.parametrize("name", LOOK_ALIKES)
def test_a_draft_as_it_is_reads_every_row(name: str, drafts: dict[str, WrittenDraft], files: dict[str, Path]) -> None:
    found = check_declaration(files[name], load_dataset(str(drafts[name].path)), shown_rows=0)
    assert (found.accepted, found.absent_columns) == (ROWS, ())


@pytest.mark.parametrize(
    ("name", "column", "kind"),
    [
        ("tabformer", "Zip", "category"),
        ("tabformer", "MCC", "category"),
        ("tabformer", "Merchant Name", "category"),
        ("tabformer", "Amount", "number"),
        ("sparkov", "zip", "category"),
        ("sparkov", "merchant", None),
        ("sparkov", "street", None),
        ("sparkov", "dob", None),
        ("sparkov", "unix_time", None),
        ("paysim", "nameDest", None),
        ("paysim", "newbalanceOrig", "number"),
        ("ieee", "M1", "boolean"),
        ("ieee", "addr1", "category"),
        ("ieee", "addr2", None),
        ("ieee", "card3", None),
        ("ieee", "dist2", None),
    ],
)
def test_a_draft_tells_codes_from_numbers_and_leaves_out_what_no_model_can_use(
    name: str, column: str, kind: str | None, drafts: dict[str, WrittenDraft]
) -> None:
    text = drafts[name].path.read_text()
    kinds = {field["name"]: field["kind"] for field in tomllib.loads(text)["fields"]}
    assert kinds.get(column) == kind
    if kind is None:
        assert f"#   {column!r}: " in text  # with the reason


@pytest.mark.parametrize("name", LOOK_ALIKES)
def test_a_corrected_declaration_reads_every_row(name: str, files: dict[str, Path]) -> None:
    checked = CliRunner().invoke(app, ["declare", "--check", str(DECLARATIONS / f"{name}.toml"), str(files[name])])
    assert (checked.exit_code, f"{ROWS:,} read, 0 rejected" in checked.output) == (0, True), checked.output


@pytest.mark.parametrize("name", TRAINED)
def test_a_corrected_declaration_trains_and_scores(
    name: str, files: dict[str, Path], settings: Settings, tmp_path: Path
) -> None:
    declaration = str(DECLARATIONS / f"{name}.toml")
    settings = msgspec.structs.replace(settings, dataset=declaration, model_name=name)
    days = 1 if name == "ulb" else None  # it spans two days
    trained = train(settings, files[name], backtest_days=days, force="the gate needs more rows than this file has")
    assert trained.rejected == {}
    assert trained.evaluation.metric("roc_auc").value > 0.8
    scored = score_file(files[name], tmp_path / "out.csv", load_dataset(declaration), registered_model(settings, None))
    assert (scored.rows, scored.rejected) == (ROWS, 0)


def test_two_days_of_history_need_fewer_days_of_backtest(files: dict[str, Path], settings: Settings) -> None:
    settings = msgspec.structs.replace(settings, dataset=str(DECLARATIONS / "ulb.toml"), model_name="ulb")
    with pytest.raises(TrainingError, match=r"spans 2 days.*--backtest-days"):
        train(settings, files["ulb"])
