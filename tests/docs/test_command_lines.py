"""Command lines in documents and help texts are checked against the commands."""

import inspect
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.core import TyperCommand, TyperGroup
from typer.exceptions import TyperException

from tamiz.main import app
from tests.helpers.documents.command_lines import parse
from tests.helpers.documents.doc_runner import ROOT


def help_texts() -> Iterator[tuple[str, str]]:
    """Each command with its help."""
    pending: list[tuple[str, TyperCommand | TyperGroup]] = [("tamiz", typer.main.get_command(app))]
    while pending:
        name, command = pending.pop()
        if isinstance(command, TyperGroup):
            pending.extend((f"{name} {sub}", found) for sub, found in command.commands.items())
        if not isinstance(command, TyperGroup) or command.invoke_without_command or name == "tamiz":
            yield name, inspect.cleandoc(command.help or "")


@pytest.mark.parametrize(("name", "text"), [pytest.param(*pair, id=pair[0]) for pair in help_texts()])
def test_help_shows_a_valid_example_and_an_existing_page(
    name: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("history.csv").touch()  # `produce` requires its file to exist
    examples = re.findall(r"^    (tamiz .*)$", text, re.MULTILINE)
    assert any(example.startswith(name) for example in examples)
    for example in examples:
        parse(shlex.split(example)[1:])
    pages = re.findall(r"docs/[\w/.-]+\.md", text.rpartition("Read on: ")[2])
    assert pages
    assert [page for page in pages if not (ROOT / page).exists()] == []


@pytest.mark.parametrize(
    "line", ["worker --bogus", "score in.csv", "drift --granularity year", "drift a.csv b.csv", "topics create now"]
)
def test_an_invalid_command_line_is_refused(line: str) -> None:
    with pytest.raises(TyperException):
        parse(line.split())


def test_an_unknown_command_is_named() -> None:
    with pytest.raises(AssertionError, match="there is no `tamiz nothing`"):
        parse(["nothing"])
