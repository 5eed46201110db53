"""docs/rules.md: each of its rules compiles, and its commands do what the page says."""

import shlex
import subprocess
import tomllib
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from monitoring.performance.rule_statistics import CONFIDENCE
from schemas.configuration.child_environment import child_environment
from schemas.configuration.settings import Settings
from schemas.dataset.declaration import Dataset, load_dataset
from schemas.rules import RulesEvidence, RulesFile
from schemas.time_units import DAY_MS
from scoring.rules.ruleset import compile_ruleset
from stream_app.rules.list_records import entries_on_lists, read_list_entries
from stream_app.rules.ruleset_records import read_ruleset_log
from tamiz.main import app
from tamiz.services.rules_file import read_rules_file
from tamiz.services.tested_rulesets import keep_evidence
from tests.conftest import Kafka
from tests.helpers.documents.doc_runner import PAGES, ROOT, Block, blocks
from tests.helpers.services.worker_process import isolated_settings

PAGE = PAGES["rules.md"].read_text(encoding="utf-8")
BLOCKS = [block for block in blocks("rules.md") if not block.illustration]
RULES = [block for block in BLOCKS if block.language == "toml"]
EXAMPLES = ROOT / "examples"


def dataset_of(block: Block) -> Dataset:
    example = block.title == "card_payments_rules.toml"
    return load_dataset(str(EXAMPLES / "card_payments.toml") if example else "terminal_transactions")


@pytest.mark.parametrize("block", RULES, ids=str)
def test_each_rule_of_the_page_compiles(block: Block) -> None:
    content = msgspec.convert(tomllib.loads(block.code), RulesFile)
    assert content.rules or content.explore
    compile_ruleset(content, dataset_of(block))


def test_the_shipped_example_is_that_of_the_page() -> None:
    (of_page,) = (block for block in RULES if block.title == "card_payments_rules.toml")
    shipped = read_rules_file(EXAMPLES / "card_payments_rules.toml")
    assert shipped == msgspec.convert(tomllib.loads(of_page.code), RulesFile)
    assert len(shipped.rules) >= 12


def test_the_numbers_of_the_page_are_those_of_the_code() -> None:
    assert f"`rules_min_test_days` ({Settings().rules_min_test_days})" in PAGE
    assert f"Intervals** are {CONFIDENCE:.0%}".replace("%", " %") in PAGE


@pytest.mark.kafka
def test_the_commands_of_the_page_do_what_it_says(
    kafka: Kafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All but training, worker and test, which other tests run; the evidence of a test is put in its place."""
    settings = isolated_settings(kafka.bootstrap_servers, tmp_path / "state", dataset="terminal_transactions")
    monkeypatch.chdir(tmp_path)
    runner = CliRunner(env={n: v for n, v in child_environment(settings).items() if n.startswith("TAMIZ_")})
    (tmp_path / "rules.toml").write_text(RULES[0].code)
    month = RulesEvidence(from_ms=0, until_ms=30 * DAY_MS, transactions=1, matches={})
    keep_evidence(settings, read_rules_file(tmp_path / "rules.toml"), month)
    ran = []
    for line in [line for block in BLOCKS if block.language == "sh" for line in block.code.splitlines()]:
        command = shlex.split(line)
        if command[:2] in (["tamiz", "rules"], ["tamiz", "lists"]) and command[2] != "test":
            result = runner.invoke(app, command[1:])
            assert result.exit_code == 0, f"{line}: {result.output}{result.exception!r}"
            ran.append(" ".join(command[1:3]))
        elif command[0] in ("sed", "printf"):
            subprocess.run(["bash", "-c", line], check=True)
    assert {"rules check", "rules activate", "rules rollback", "lists import", "lists remove"} <= set(ran)
    changes = [entry.record for entry in read_ruleset_log(settings, load_dataset(settings.dataset)).entries]
    assert [(r.content.rules[0].mode, r.restores) for r in changes] == [("shadow", None), ("live", None), ("shadow", 1)]
    entries = entries_on_lists([entry for _, entry in read_list_entries(settings)], at_ms=0)
    assert {(e.list, e.value, e.effect, e.rule) for e in entries} == {
        ("stolen", "c17", "block", None),
        ("watch", "t42", "review", None),
        ("trusted", "c99", None, None),
        ("stolen", "c301", "block", None),
        ("stolen", "c302", "block", None),
        ("trips", "c17", "snooze", "large-for-card"),
    }
