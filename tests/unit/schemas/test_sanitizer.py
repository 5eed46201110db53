"""Hostile texts in every output, read back from the real renderer's result."""

import csv
import html
import io
import json
import logging
import re
import unicodedata
from collections.abc import Callable
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import default
from html.parser import HTMLParser
from pathlib import Path

import matplotlib
import pytest
from matplotlib.figure import Figure
from pypdf import PdfReader
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from schemas.security import sanitizer
from stream_app.lifecycle.logging_setup import JsonLines, TextLines
from tamiz.notifications.channels import slack
from tamiz.notifications.channels.mail import message
from tamiz.terminal import Terminal
from tests.unit.monitoring.alerting.test_notification import built
from training.reports import pdf_layout
from training.reports.figures import label

HOSTILE = {
    "a terminal's escapes": "\x1b[2J\x1b]0;owned\x07 \x9b31m\x90q\x9c",
    "what moves the cursor": "a\rb\x08\x08c\x0bd\x0ce\x7f",
    "forged line": "x\n2026-11-27 00:00:00,000 INFO tamiz: forged",
    "forged line by other separators": "x\u2028INFO forged\u2029y\x85z\r\nINFO forged",
    "bidirectional overrides": "\u202egpj.exe\u2066\u200f\u061c",
    "zero width and tags": "a\u200bb\ufeffc\U000e0041\U000e007f",
    "lone surrogate and nul": "\ud800x\x00y\udfff",
    "markup of rich": "[/nope] [bold red]x[/] [link=https://evil]y[/link] :skull: \\[x",
    "mathtext": r"$\frac{$",
    "more mathtext": r"a$$b$ \$ $x^{$ \\$",
    "HTML": "</td><script>alert(1)</script><img src=x onerror='a()'> &amp; \"q\"",
    "XML of reportlab": '<para><b>&unknown; <a href="javascript:x">y</a> <img src="/etc/passwd"/>',
    "formula": '=HYPERLINK("http://evil","x")',
    "formula by another sign": "+1+cmd|'/C calc'!A0",
    "formula, at": "@SUM(1+1)",
    "formula, minus": "-2+3+cmd|'/C calc'!A0",
    "formula after a tab": "\t=1+1",
    "formula after a return": "\r=1+1",
    "formula after a space": "  =1+1",
    "formula, wide": "＝1+1",
    "formula after a separator": 'a;=HYPERLINK("http://evil");b,=1+1\n=2',
    "formula that was made harmless before": "'=1+1",
    "mentions": "@channel @all <!channel> <@U1> <!subteam^S1> `code`",
    "links": "[x](https://evil) <https://evil|x> www.evil.example ![y](http://z)",
    "header": "x\r\nBcc: eve@example.org\r\n\r\nbody",
    "very long": "w" * 100_000,
    "very long, with spaces": "w " * 50_000,
    "other scripts": "日本 привет 👩‍👩‍👧 e\u0301",
    "Unicode's far end": "\U0010ffff\ufffe\ue000",
    "empty": "",
    "templates": "%s %(x)d {0} {x!r} ${x}",
}


@pytest.fixture(params=[pytest.param(text, id=name) for name, text in HOSTILE.items()])
def text(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def acts(written: str) -> list[str]:
    """Characters that a terminal or an editor acts on, line feeds of ours aside."""
    return [hex(ord(c)) for c in written if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") and c != "\n"]


def test_a_terminal_shows_it_as_one_literal_line(text: str) -> None:
    part = text[:100]
    table = Table(part, title=part, caption=part, width=300)
    table.add_row(part, style="bold")
    for shown in (part, Panel(part), table, Text(part), Text.assemble((part, "bold"))):
        out = io.StringIO()
        Terminal(file=out, width=300).print(shown)
        assert acts(out.getvalue()) == []
        # Of a text of its own, rich drops what it knows to be a control character.
        assert isinstance(shown, Text) or sanitizer.terminal(part).strip() in out.getvalue()
    out = io.StringIO()
    Terminal(file=out, width=80).print(text, soft_wrap=True)
    assert out.getvalue() == sanitizer.terminal(text) + "\n"


@pytest.mark.parametrize("formatter", [TextLines("%(levelname)s %(name)s: %(message)s"), JsonLines()])
def test_a_log_has_one_line_for_it(text: str, formatter: logging.Formatter) -> None:
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(formatter)
    log = logging.Logger("tamiz.test")
    log.addHandler(handler)
    log.error("%s: %s", "promoted", text, extra={"reason": text})
    assert acts(out.getvalue()) == []
    assert out.getvalue().count("\n") == 1
    try:
        raise ValueError(text)
    except ValueError:
        log.exception("failed")
    lines = out.getvalue().splitlines()[2:]
    assert [line for line in lines if not line.startswith("  ")] == []
    assert acts(out.getvalue()) == []


def test_json_is_equal_and_acts_on_no_terminal(text: str) -> None:
    text = text.encode("utf-8", "replace").decode()
    encoded = json.dumps({text: [text]}, ensure_ascii=False)
    safe = sanitizer.json_line(encoded)
    assert acts(safe) == []
    assert json.loads(safe) == {text: [text]}


@pytest.mark.parametrize("delimiter", [",", ";"])
def test_no_cell_of_a_csv_file_is_a_formula_and_each_is_read_back(text: str, delimiter: str) -> None:
    out = io.StringIO()
    cells = [sanitizer.csv_cell(text), sanitizer.csv_cell(sanitizer.printable(text))]
    csv.writer(out, delimiter=delimiter, lineterminator="\r\n").writerow(["1", *cells])
    (row,) = csv.reader(io.StringIO(out.getvalue(), newline=""), delimiter=delimiter, strict=True)
    assert [sanitizer.csv_value(cell) for cell in row] == ["1", text, sanitizer.printable(text)]
    # Also where a program splits at another separator than the file's.
    for separator in (delimiter, ",", ";", "\t"):
        for line in out.getvalue().splitlines():
            for cell in line.split(separator):
                assert not cell.lstrip('" \t\0').startswith(("=", "@", "+", "-", "＝")), cell


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_a_figure_draws_each_literally(kind: str) -> None:
    figure = Figure(figsize=(12, 6), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xticks(range(len(HOSTILE)), [label(text, 14) for text in HOSTILE.values()], rotation=60)
    axes.set_yticks(range(len(HOSTILE)), [label(text) for text in HOSTILE.values()])
    axes.set_title(" and ".join(label(text, 20) for text in HOSTILE.values()), fontsize=2)
    out = io.BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "none"}):  # so that the texts can be read back
        figure.savefig(out, format=kind)
    if kind == "svg":
        seen = html.unescape(out.getvalue().decode())
        literal = [HOSTILE[name] for name in ("mathtext", "more mathtext", "XML of reportlab")]
        assert acts(seen) == []
        assert [text for text in literal if text not in seen] == []


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.seen = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.seen += "".join(value or "" for _, value in attrs)

    def handle_data(self, data: str) -> None:
        self.seen += data


@pytest.mark.parametrize("made", [sanitizer.html_text, sanitizer.drawn_html_text])
def test_html_shows_it_literally(text: str, made: Callable[[str], str]) -> None:
    parser = _Tags()
    parser.feed(f'<p title="{made(text)}">{made(text)}</p>')
    parser.close()
    assert parser.tags == ["p"]
    assert parser.seen == sanitizer.printable(text) * 2
    assert made is sanitizer.html_text or "$" not in made(text)


def test_a_pdf_is_written_whatever_its_paragraphs_hold(tmp_path: Path) -> None:
    pdf_layout.register_fonts()
    flow: list[object] = []
    for text in HOSTILE.values():
        flow += [
            pdf_layout.title(text),
            pdf_layout.text(text),
            *pdf_layout.section(text, [pdf_layout.callout(text, text, "open")]),
            pdf_layout.facts([(text, text)]),
            pdf_layout.table((text, text), [[text, text]] * 2, shares=(1, 9)),
        ]
    pdf_layout.write_pdf(tmp_path / "r.pdf", flow, name="\n".join(HOSTILE.values()), footer=HOSTILE["HTML"])
    seen = "".join("".join(page.extract_text().split()) for page in PdfReader(tmp_path / "r.pdf").pages)
    for name in ("XML of reportlab", "HTML", "mathtext", "markup of rich"):
        assert "".join(HOSTILE[name].split()) in seen


def test_a_chat_message_pings_and_links_nothing(text: str) -> None:
    body = json.loads(slack.message(built(summary=text or "x")))["text"]
    assert [s for s in ("<", ">", "@channel", "@all", "](", "://", "www.") if s in body] == []
    assert body.count("`") == 4
    assert body.count("\n") == 1


def test_a_mail_gets_no_further_header(text: str) -> None:
    plain = message(built(summary="x"), "tamiz@example.org", "ana@example.org", None)
    nasty = built(summary=text, incident_id=text or "i", model=text or "m")
    written = message(nasty, "tamiz@example.org", "ana@example.org", b"%PDF")
    read = BytesParser(policy=default).parsebytes(written.as_bytes())
    assert isinstance(read, EmailMessage)
    assert set(read.keys()) <= set(plain.keys())
    assert len(read.keys()) == len(set(read.keys()))
    assert read["To"] == "ana@example.org"


def test_names_that_the_input_brings_are_limited_in_number_and_length() -> None:
    names = sanitizer.KnownNames(limit=10)
    found = {names.name(f"code-{i}\x1b" + "x" * 1_000) for i in range(1_000)}
    assert len(found) == 11
    assert all(len(name) <= sanitizer.MAX_NAME_LENGTH and name.isprintable() for name in found)


ALONE = {  # the modules that may do a thing, and why no other needs to
    r"\brich\.console import .*\bConsole\b": {
        "tamiz/terminal.py",
        "stream_app/kafka/replay.py",
        "tamiz/dev_broker/kafka_download.py",
    },
    r"\bsaxutils\b|\bhtml\.escape\(|from html import escape": {
        "schemas/security/sanitizer.py",
        "training/eda/eda_report.py",
    },
    r"(?<!>>> )(?<![\w.])print\(": {
        "tamiz/terminal.py",
        "schemas/security/standard_error.py",
        "tamiz/commands/setup/users.py",
        "tamiz/commands/setup/broker.py",
        "scoring/bundle/trial_process.py",
    },
    r"\brich\.markup\b|\bfrom_markup\b": set(),
    r"logging\.Formatter\(\"|basicConfig\(": set(),
    r"csv\.writer\(|arrow_csv\.CSVWriter\(|\.to_csv\(": {
        "tamiz/batch/batch_scoring.py",
        "tamiz/batch/rejected_file.py",
        "tamiz/simulation/payload_formats.py",
    },
}


@pytest.mark.parametrize("pattern", ALONE)
def test_no_other_module_writes_past_the_functions_for_its_output(pattern: str) -> None:
    root = Path(__file__).parent.parent.parent.parent
    files = [
        path
        for name in ("schemas", "scoring", "monitoring", "training", "stream_app", "tamiz")
        for path in (root / name).rglob("*.py")
    ]
    found = {str(path.relative_to(root)) for path in files if re.search(pattern, path.read_text(encoding="utf-8"))}
    assert found <= ALONE[pattern]
