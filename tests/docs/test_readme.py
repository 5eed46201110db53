"""README and the other documents: short, in a known form, and every path, link and command in them exists."""

import re
from pathlib import Path

import pytest

from tests.helpers.documents.doc_runner import PAGES, ROOT, blocks

DOCUMENTS = {
    **PAGES,
    **{name: ROOT / name for name in ("CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")},
    **{f"reference/{path.name}": path for path in sorted((ROOT / "docs/reference").glob("*.md"))},
}
FOLDERS = "schemas|scoring|training|monitoring|stream_app|tamiz|tests|docs|benchmarks|chaos|deploy"
PACKAGES = ("schemas", "scoring", "monitoring", "training", "stream_app", "tamiz")
MAX_README_LINES = 180


def text_of(page: str) -> str:
    return DOCUMENTS[page].read_text(encoding="utf-8")


def test_the_readme_has_at_most_180_lines() -> None:
    assert text_of("README.md").count("\n") <= MAX_README_LINES


def test_every_command_of_the_readme_is_in_the_tutorial() -> None:
    run = {line for block in blocks("tutorial.md") if block.language == "sh" for line in block.code.splitlines()}
    lines = [line for block in blocks("README.md") if block.language == "sh" for line in block.code.splitlines()]
    assert len(lines) > 5
    assert [line for line in lines if line not in run and not line.startswith("make ")] == []


def test_the_code_map_lists_exactly_the_modules() -> None:
    code_map = text_of("architecture.md").split("\n## Code map\n", 1)[1]
    named = {
        package + name
        for package, table in re.findall(r"^### (\w+)(.*?)(?=^### |\Z)", code_map, re.M | re.S)
        if package in PACKAGES
        for name in re.findall(r"^\| `(/?[\w/.]+)` \|", table.replace("| `", "| `/"), re.M)
    }
    folders = tuple(name for name in named if name.endswith("/"))
    modules = {str(path.relative_to(ROOT)) for package in PACKAGES for path in (ROOT / package).rglob("[!_]*.py")}
    assert {module for module in modules - named if not module.startswith(folders)} == set(), (
        "give each a line in the code map of docs/architecture.md"
    )
    assert {name for name in named if not (ROOT / name).exists()} == set()


@pytest.mark.parametrize("page", sorted({*DOCUMENTS} - {"README.md", "SECURITY.md", "CHANGELOG.md"}))
def test_a_page_begins_with_a_sentence_about_its_readers(page: str) -> None:
    text = re.sub(r"\A<!--.*?-->\n", "", text_of(page))
    assert re.match(r"# [^\n]+\n\nFor [^.]+\.\n\n", text), text[:200]


@pytest.mark.parametrize("page", DOCUMENTS)
def test_every_make_target_that_a_page_names_exists(page: str) -> None:
    targets = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = set(re.findall(r"(?:`|^)make ([a-z-]+)", text_of(page), re.M))
    assert [target for target in sorted(named) if not re.search(rf"^{target}:.*## ", targets, re.M)] == []


@pytest.mark.parametrize("page", DOCUMENTS)
def test_every_file_that_a_page_names_exists(page: str) -> None:
    named = set(re.findall(rf"`((?:{FOLDERS})/[\w./-]*)`", text_of(page)))
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("page", DOCUMENTS)
def test_every_link_of_a_page_is_valid(page: str) -> None:
    text = re.sub(r"^```.*?^```$", "", text_of(page), flags=re.M | re.S)
    links = re.findall(r"\]\((?!https?:)([\w./-]*)(?:#([\w-]+))?\)|(?:src|href)=\"(?!https?:)([\w./-]+)\"", text)
    broken = []
    for target, anchor, source in links:
        file = (DOCUMENTS[page].parent / (target or source)) if target or source else DOCUMENTS[page]
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append((target or source, anchor))
    assert broken == []


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as mkdocs and GitHub make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip()) for heading in headings}
