"""The documentation is correct: code blocks run, tables name existing things, the reference equals the code."""

import ast
import contextlib
import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from kafka import KafkaConsumer, TopicPartition

from docs.code_map import with_names
from docs.generate import FOLDER, reference
from monitoring.alerting.retrain_policy import RetrainPolicy
from monitoring.performance.rolling_metrics import PerformancePolicy
from schemas.time_units import DAY_MS
from tamiz.dev_broker.embedded_broker import EmbeddedBroker, free_port
from tamiz.doctor.topic_checks import NEEDED
from tests.helpers.documents.doc_runner import PAGES, ROOT, Block, DocRunner, blocks, environment
from tests.helpers.services.worker_process import wait_for
from training.data.holdout import BACKTEST_DAYS
from training.evaluation.review_metrics import MIN_DAYS
from training.registry.promotion import MIN_GUARD_DAYS

DOCS = ROOT / "docs"
FOLLOWED = (
    "tutorial.md",
    "produce.md",
    "consume.md",
    "subscribe.md",
    "data-set.md",
    "approve.md",
    "respond.md",
    "profiles.md",
    "rules.md",
)
# README's commands are the tutorial's (test_readme.py), and its JSON is looked up on the topics.
# The signature check is a function without a call.
ALONE = {"notifications.md": ("import hashlib",)}
BLOCKS = [block for page in PAGES for block in blocks(page) if block.language not in ("", "text")]  # those are drawings


# Numbers that pages repeat: file -> the words, with the constant of the code in them.
REPEATED = [
    ("docs/drift.md", f"at most once in {RetrainPolicy().cool_off_ms // DAY_MS} days"),
    ("docs/respond.md", f"at most once in {RetrainPolicy().cool_off_ms // DAY_MS} days"),
    ("docs/training.md", f"count from {MIN_GUARD_DAYS} whole days on"),
    ("docs/training.md", f"Fewer than {MIN_DAYS} days give no interval"),
    ("docs/approve.md", f"the same last {BACKTEST_DAYS} days"),
    ("docs/glossary.md", f"the last {BACKTEST_DAYS} days of a history"),
    (
        "docs/reference/settings.md",
        f"up to {PerformancePolicy().remembered:,} decisions and "
        f"{PerformancePolicy().remembered + PerformancePolicy().early:,} labels",
    ),
]


def section(page: str, heading: str) -> str:
    return PAGES[page].read_text(encoding="utf-8").split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]


def first_column(text: str) -> list[str]:
    return [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("|")][2:]


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_code_block_is_run_or_marked_as_an_illustration(block: Block) -> None:
    alone = block.code.startswith(ALONE.get(block.page, ()) or "\0")
    assert block.illustration or block.page in (*FOLLOWED, "README.md") or alone


@pytest.mark.parametrize(("page", "words"), REPEATED, ids=[page for page, _ in REPEATED])
def test_a_number_on_a_page_equals_the_constant(page: str, words: str) -> None:
    assert words in " ".join((ROOT / page).read_text(encoding="utf-8").split())


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DocRunner]:
    """A reader who has followed the tutorial to its end; the programs still run."""
    folder = tmp_path_factory.mktemp("reader")
    ports = {"web_port": free_port(), "dashboard_port": free_port(), "monitor_port": free_port()}
    with EmbeddedBroker() as broker:
        person = DocRunner(folder, broker.bootstrap_servers, environment(broker.bootstrap_servers, ports))
        try:
            for _ in person.follow("tutorial.md"):
                pass
            yield person
            assert set(person.leave()) == {0}, person.logs()
        finally:
            person.leave()


def state(person: DocRunner) -> dict[str, Any]:
    with urllib.request.urlopen(
        f"http://127.0.0.1:{person.environment['TAMIZ_DASHBOARD_PORT']}/state", timeout=5
    ) as page:
        return dict(json.loads(page.read()))


@pytest.mark.kafka
def test_the_tutorial_leads_to_an_alert_on_the_dashboard(reader: DocRunner) -> None:
    wait_for(lambda: any("monto" in i["features"] for i in state(reader)["incidents"]), 60, reader.logs)
    (moved,) = [i for i in state(reader)["incidents"] if "monto" in i["features"]]
    assert moved["kind"] == "shift"
    assert "cashback" in moved["features"], "what follows the amount joins its incident"


@pytest.mark.kafka
def test_the_readme_shows_the_tutorials_output(reader: DocRunner) -> None:
    printed = {comparable(line) for line in reader.transcript}
    shown = [line for block in blocks("README.md") if block.language == "text" for line in block.code.splitlines()]
    assert len(shown) > 5
    assert [line for line in shown if comparable(line) not in printed] == []


def comparable(line: str) -> str:
    """A line without the parts that differ between runs: times, topic ids, and the first decision."""
    if re.match(r"\d\d:\d\d:\d\d decisions-", line):
        line = re.sub(r"-\d+-\d+|\d\d:\d\d:\d\d|approve|review|decline|0\.\d+|@[\w-]{8}", "*", line)
    return line.strip()


@pytest.mark.kafka
def test_the_readmes_decision_belongs_to_its_transaction(reader: DocRunner) -> None:
    sent, decided = (json.loads(block.code) for block in blocks("README.md") if block.language == "json")
    offset = int(re.fullmatch(r"transactions-0-(\d+)@.{8}", decided["transaction_id"])[1])  # type: ignore[index]
    assert record_at(reader, "transactions", offset) == sent
    made = record_at(reader, "decisions", offset)  # as nothing before it was a dead letter
    assert set(made) == set(decided)
    for field in ("outcome", "model", "model_version", "event_time_ms"):
        assert made[field] == decided[field]
    assert made["score"] == pytest.approx(decided["score"], rel=1e-4)
    assert [reason["text"] for reason in made["reasons"]] == [reason["text"] for reason in decided["reasons"]]


def record_at(reader: DocRunner, topic: str, offset: int) -> dict[str, Any]:
    """The record of partition 0 at an offset."""
    partition = TopicPartition(topic, 0)
    with contextlib.closing(KafkaConsumer(bootstrap_servers=reader.bootstrap, enable_auto_commit=False)) as consumer:
        consumer.assign([partition])
        consumer.seek(partition, offset)
        record = next(iter(consumer))
        assert record.offset == offset
        return dict(json.loads(record.value))


@pytest.mark.kafka
def test_the_examples_for_producers_consumers_and_subscribers_work(reader: DocRunner) -> None:
    (sent,) = [out for _, out in reader.follow("produce.md")]
    assert re.fullmatch(r"transactions-\d-\d+\n", sent)
    read = {block.title: out for block, out in reader.follow("consume.md")}
    lines = read["consume.py"].splitlines()
    assert len([line for line in lines if line.startswith("shop-4711 ")]) == 1
    assert len(lines) > 19_000
    (heard,) = [out for _, out in reader.follow("subscribe.md")]
    assert "shift incident" in heard
    assert "█" in heard


@pytest.mark.kafka
def test_the_example_data_set_is_declared_and_trained_on(reader: DocRunner) -> None:
    declared, checked, trained = [out for block, out in reader.follow("data-set.md") if block.language == "sh"]
    doubts = [line for line in declared.splitlines() if line.startswith("doubt: ")]
    assert "\n".join(doubts) in PAGES["data-set.md"].read_text(encoding="utf-8")
    assert len(doubts) == 3
    assert "20,000 read, 0 rejected" in checked
    assert "The model has skill" in trained
    assert (reader.folder / "decided.csv").read_text().count("\n") == 20_001


@pytest.mark.kafka
def test_the_example_of_an_approval_works(reader: DocRunner) -> None:
    (history,) = [block for block in blocks("tutorial.md") if "tamiz train" in block.code]
    reader.run(history._replace(code="tamiz train history.csv\n"))
    told = "".join(out for _, out in reader.follow("approve.md"))
    assert "version 2 is champion; previous champion: version 1" in told
    assert "version 1 is champion again" in told
    assert "version 2 is rejected" in told
    assert (reader.folder / "report.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.kafka
def test_the_commands_for_responding_to_an_alert_work(reader: DocRunner) -> None:
    told = "".join(out for _, out in reader.follow("respond.md"))
    assert "monto moved" in told
    assert (reader.folder / "drift.html").stat().st_size > 10_000


def test_every_code_of_a_dead_letter_is_documented_for_producers() -> None:
    made = set()
    rejecting = ("schemas", "scoring", "stream_app/decisions", "training/data")
    for path in (path for folder in rejecting for path in sorted((ROOT / folder).rglob("*.py"))):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("Fault", "value_parsing.Fault"):
                made |= codes(node.args[0]) if node.args else set()
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in ("code", "ISOLATED_TIME"):
                made |= codes(node.value)
            if isinstance(node, ast.keyword) and node.arg == "code":
                made |= codes(node.value)
    documented = re.findall(r"`([a-z0-9-]+)`", " ".join(first_column(section("produce.md", "Invalid transactions"))))
    assert set(documented) == made


def codes(value: ast.expr) -> set[str]:
    """The texts that an expression may become."""
    if isinstance(value, ast.IfExp):
        return codes(value.body) | codes(value.orelse)
    return {value.value} if isinstance(value, ast.Constant) and isinstance(value.value, str) else set()


def test_every_prometheus_alert_is_documented_for_people_on_call() -> None:
    rules = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text(encoding="utf-8"))
    named = re.findall(r"`(Tamiz\w+)`", " ".join(first_column(section("respond.md", "Prometheus' alerts"))))
    assert sorted(named) == sorted(rule["alert"] for group in rules["groups"] for rule in group["rules"])


def tables(page: str) -> Iterator[list[list[str]]]:
    """The rows of each table of a page, as cells."""
    rows: list[list[str]] = []
    for line in [*PAGES[page].read_text(encoding="utf-8").splitlines(), ""]:
        if line.startswith("|"):
            rows.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
        elif rows:
            yield rows
            rows = []


@pytest.mark.parametrize("page", PAGES)
def test_every_row_of_a_table_has_as_many_cells_as_its_head(page: str) -> None:
    assert [row for rows in tables(page) for row in rows if len(row) != len(rows[0])] == []


def test_the_documented_rights_equal_those_that_the_doctor_checks() -> None:
    (rows,) = [rows for rows in tables("deployment.md") if rows[0][:3] == ["program", "`READ`", "`WRITE`"]]
    listed = {
        (topic, operation, row[0])
        for row in rows[2:]
        for operation, cell in zip(("READ", "WRITE"), row[1:3], strict=True)
        for topic in re.findall(r"`([\w-]+)`", cell)
    } | {(topic, "DESCRIBE", row[0]) for row in rows[2:] for topic in re.findall(r"`DESCRIBE` on `([\w-]+)`", row[3])}
    asked = {
        (topic, operation, program)
        for topic, operations in NEEDED.items()
        for operation, programs in operations.items()
        for program in programs.split(", ")
    }
    assert listed == asked


def test_every_test_that_a_guarantee_names_exists() -> None:
    sources = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py")}
    functions = {(name, found) for name, text in sources.items() for found in re.findall(r"def (test_\w+)", text)}
    text = PAGES["guarantees.md"].read_text(encoding="utf-8")
    named = re.findall(r"(?:tests/)?\b(?:(test_\w+\.py)(?:::(test_\w+))?|(test_\w+))", text)
    assert len(named) > 80
    missing = [
        (file, function, alone)
        for file, function, alone in named
        if (file and file not in sources)
        or (function and (file, function) not in functions)
        or (alone and alone not in {function for _, function in functions})
    ]
    assert missing == []


def test_the_reference_is_up_to_date() -> None:
    stale = [name for name, content in reference().items() if (FOLDER / name).read_text(encoding="utf-8") != content]
    assert stale == [], "run `make reference`"
    code_map = PAGES["architecture.md"].read_text(encoding="utf-8")
    assert code_map == with_names(code_map, ROOT), "run `make reference`"


def test_the_topics_document_is_valid_asyncapi() -> None:
    schema = json.loads((Path(__file__).parent / "asyncapi-3.0.json").read_text(encoding="utf-8"))
    document = json.loads((FOLDER / "asyncapi.json").read_text(encoding="utf-8"))
    validator = jsonschema.Draft7Validator(schema)
    assert [error.message for error in validator.iter_errors(document)] == []
    assert not validator.is_valid(document | {"asyncapi": "2.0.0"}), "the schema refuses another version"


@pytest.mark.kafka
def test_records_on_the_topics_are_valid_by_the_published_schemas(reader: DocRunner) -> None:
    schemas = json.loads((FOLDER / "records.schema.json").read_text(encoding="utf-8"))
    asyncapi = json.loads((FOLDER / "asyncapi.json").read_text(encoding="utf-8"))["components"]["schemas"]
    records = {"decisions": "Decision", "drift-panes": "PaneSnapshot", "drift-alerts": "DriftAlert"}
    validators = {
        topic: jsonschema.Draft202012Validator(schemas | {"oneOf": [{"$ref": f"#/$defs/{record}"}]})
        for topic, record in records.items()
    } | {"transactions": jsonschema.Draft202012Validator(asyncapi["Transaction"])}
    for topic, validator in validators.items():
        values = some(reader, topic)
        assert [error.message for value in values for error in validator.iter_errors(value)] == [], topic
        assert not validator.is_valid([]), topic


def some(reader: DocRunner, topic: str) -> list[Any]:
    """The first valid records of a topic."""
    command = [
        "tamiz",
        "tail",
        topic,
        "--from-beginning",
        "--limit",
        "1" if topic == "drift-alerts" else "20",
        "--json",
    ]
    done = subprocess.run(
        command, env=reader.environment, cwd=reader.folder, capture_output=True, timeout=60, check=True
    )
    values = [json.loads(line).get("value") for line in done.stdout.splitlines()]
    found = [value for value in values if (isinstance(value, dict) and "monto" in value) or topic != "transactions"]
    assert found
    return found


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    command = [Path(sys.executable).parent / "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path]
    quiet = os.environ | {"NO_MKDOCS_2_WARNING": "1"}  # of its future
    done = subprocess.run(command, cwd=ROOT, env=quiet, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    html = (tmp_path / "index.html").read_text(encoding="utf-8")
    elsewhere = re.findall(r'(?:src|href)="(https?://(?!127\.0\.0\.1)[^"]+\.(?:js|css|woff2?))"', html)
    assert elsewhere == [], "a page must not fetch anything from elsewhere"


def test_coverage_is_written_where_sonarqube_reads_it() -> None:
    told = dict(
        line.split("=", 1) for line in (ROOT / "sonar-project.properties").read_text().splitlines() if "=" in line
    )
    recipe = (ROOT / "Makefile").read_text().split("\ncoverage:", 1)[1].split("\n\n", 1)[0]
    assert told["sonar.python.coverage.reportPaths"] in recipe
    assert told["sonar.python.xunit.reportPath"] in recipe
    assert [name for name in told["sonar.sources"].split(",") if f"--cov {name}" not in recipe] == []
