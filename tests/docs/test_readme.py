"""The README is true: what its tables name exists, and what exists stands there."""

import re
from pathlib import Path

import pytest
import typer

from schemas.configuration.settings import describe, load
from schemas.topics import table
from tamiz.main import app

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def rows_under(heading: str) -> list[list[str]]:
    """The cells of the first table under a heading, without its head."""
    section = README.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_every_setting_stands_in_the_readme_with_its_default_and_meaning() -> None:
    written = {row[0]: (row[1], row[2].replace("`", "")) for row in rows_under("Settings")}
    real = {
        name: ("" if default is None else str(default), about.replace("`", "")) for name, default, about in describe()
    }
    assert written == real


def test_every_topic_stands_in_the_readme() -> None:
    written = [row[:4] for row in rows_under("Topics")]
    assert written == [[t.name, t.key, t.record, t.direction] for t in table(load({}))]


def test_every_command_stands_in_the_readme() -> None:
    group = typer.main.get_command(app)
    names: set[str] = set()
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        inner = getattr(command, "commands", None)
        names |= {f"tamiz {name} {sub}" for sub in inner or ()}
        if not inner or command.invoke_without_command:
            names.add(f"tamiz {name}")
    written = {
        " ".join(word for word in row[0].split() if re.fullmatch(r"[a-z-]+", word)) for row in rows_under("Commands")
    }
    assert written == names


CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("target", sorted(set(re.findall(r"`make ([a-z-]+)`", README + CONTRIBUTING))))
def test_every_make_target_it_names_exists(target: str) -> None:
    assert re.search(rf"^{target}:.*## ", (ROOT / "Makefile").read_text(), re.M)


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "SECURITY.md"])
def test_every_file_it_names_exists(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    folders = "schemas|training|monitoring|stream_app|tamiz|tests|docs|benchmarks|chaos|deploy"
    named = set(re.findall(rf"`((?:{folders})/[\w./-]+)`", text))
    named |= set(re.findall(r"\]\(((?!http|#)[\w./-]+)(?:#[\w-]+)?\)", text))
    assert named
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []
