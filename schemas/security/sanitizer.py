r"""Escaping of untrusted text, one function per kind of output. Pure.

Any producer of a topic chooses the ids, category levels, reasons, keys and headers. Each output gives some characters
a meaning: an escape sequence moves a terminal's cursor, a line feed starts a log line, `$` starts a formula in a
figure, `=` one in a spreadsheet, `<` a tag, `@` a mention. All functions build on `printable`.

| output | function | what it escapes |
|---|---|---|
| terminal, markup off | `terminal` | control characters, ANSI escapes, bidirectional overrides, line feeds |
| log, and errors on standard error | `log_line`, `indent_lines` | the same; a second line never starts at the margin |
| JSON on a terminal or in a log | `json_line` | what JSON leaves unescaped: DEL, C1 controls, bidirectional overrides |
| CSV | `csv_cell`, `csv_value` reads it | formulas of spreadsheets |
| figures of matplotlib | `plot_text` | mathtext between two `$` |
| HTML | `html_text`, `drawn_html_text` | tags, entities, quotes; mathtext, too |
| PDF paragraphs of reportlab | `pdf_text` | its XML, and texts longer than a page |
| chat | `chat_text` | mentions, links, markup of Slack and Mattermost |
| mail headers | `mail_header` | a second header |
| anything that may hold an address | `without_credentials`, `mask_values` | users, passwords and tokens in URLs |
| labels of metrics, keys of state | `KnownNames` | a number of names that grows with the input |
"""

import html
import re
from typing import Any
from xml.sax.saxutils import escape

OTHER = "other"  # replaces every name beyond the limit
MAX_NAME_LENGTH = 64  # characters, of a metric's label or a key of state
MAX_CELL_LENGTH = 2_000  # characters, of a paragraph in a PDF: a table cell cannot be split over pages
MAX_LABEL_LENGTH = 80  # characters, of a text in a figure
ZERO_WIDTH_SPACE = "\u200b"

_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?", re.ASCII)
# A spreadsheet recognises a formula by its first character. It skips white space and accepts full-width characters.
_FORMULA = re.compile(r"[\s\0]*[=+\-@|%＝＋－＠]|[\t\r\n\0]")
# A program that splits at another separator than the file's finds the start of a cell after it.
_FORMULA_WITHIN = re.compile(r"([;,\t\n\r] *\"?'*)(?=[=+\-@＝＋－＠])")
_GUARDED_WITHIN = re.compile(r"([;,\t\n\r] *\"?'*)'(?=[=+\-@＝＋－＠])")
# A colon that no port number follows: the text after it is a password, with any characters.
_PASSWORD_FOLLOWS = re.compile(r"[^\s/?#:@\[]*:(?!\d{1,5}(?:[/?#\s:,;.)\]}'\"]|$))")
_DIGITS_THEN_AT = re.compile(r"[^\s/?#:@\[]*:\d{1,5}\s+[^\s@]*@")  # a password with a space after digits, not a port
_WORD = re.compile(r"\S*")
_QUERY_SECRET = re.compile(
    r"((?:^|[?&\s;,])[\w.-]{0,40}(?:password|passwd|token|secret|api_?key|access_key|signature)=)"
    r"(?:'[^'\n]*'|\"[^\"\n]*\"|[^&\s]*[^&\s:;,'\")\]}])",
    re.IGNORECASE | re.MULTILINE,
)
_AUTHORIZATION = re.compile(r"(Authorization['\"]?[:=,]\s*b?['\"]?(?:Basic|Bearer) )[^\s'\"]+", re.IGNORECASE)
_UNSAFE_IN_JSON = re.compile(
    "[\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e0fff]"
)


def printable(text: str, longest: int | None = None) -> str:
    r"""One line of printable characters; others become escapes. Cut to `longest` characters, the last being `…`.

    Control characters, line separators, bidirectional overrides, zero-width characters, lone surrogates and spaces
    other than U+0020 are not printable.

    >>> printable("a\x1b[2J\nb\u202e\x85")
    'a\\x1b[2J\\nb\\u202e\\x85'
    >>> printable("abcdef", 4)
    'abc…'
    """
    if longest is not None:
        text = text[: longest + 1]
    if not text.isprintable():
        text = "".join(c if c.isprintable() else _escaped(c) for c in text)
    return text if longest is None or len(text) <= longest else text[: longest - 1] + "…"


def without_credentials(text: str) -> str:
    """Mask users and passwords in URLs, secrets in their queries, and HTTP authorization headers.

    A password need not be encoded: it may contain `/`, `@`, `#` and spaces. If its end is ambiguous, the function masks
    more rather than less. Call it before truncating or escaping: a truncated URL may have lost its `@`.

    >>> without_credentials("postgresql://ml:p@ss@db/mlflow?password=x: refused; proxy http://u:p@proxy:3128")
    'postgresql://***@db/mlflow?password=***: refused; proxy http://***@proxy:3128'
    >>> without_credentials("postgresql://ml:pass/w ord@db/mlflow is away, http://registry:5000/x is not")
    'postgresql://***@db/mlflow is away, http://registry:5000/x is not'
    """
    if "://" in text and "@" in text:
        text = "\n".join(map(_without_user_info, text.split("\n")))
    if "=" in text:
        text = _QUERY_SECRET.sub(r"\1***", text)
    return _AUTHORIZATION.sub(r"\1***", text)


def mask_values(value: Any) -> Any:
    """Apply `without_credentials` to every string in nested built-in values.

    Call it before encoding as JSON: masking the encoded text could remove parts of the JSON syntax.

    >>> mask_values({"uri": ["http://u:p/w@h", 1]})
    {'uri': ['http://***@h', 1]}
    """
    if isinstance(value, str):
        return without_credentials(value)
    if isinstance(value, dict):
        return {mask_values(key): mask_values(found) for key, found in value.items()}
    if isinstance(value, list | tuple):
        return [mask_values(found) for found in value]
    return value


def terminal(text: str, longest: int | None = None) -> str:
    """For a terminal without markup, such as the consoles of `tamiz/terminal.py`: one printable line."""
    return printable(text, longest)


def log_line(text: str) -> str:
    """For a log: one printable line."""
    return printable(text)


def indent_lines(text: str) -> str:
    r"""For multi-line text, such as a traceback: printable lines, all but the first indented.

    >>> indent_lines("Error: x\n2026-11-27 00:00:00,000 INFO forged\x1b[0m")
    'Error: x\n  2026-11-27 00:00:00,000 INFO forged\\x1b[0m'
    """
    return "\n  ".join(printable(line.replace("\t", "    ")) for line in text.split("\n"))


def json_line(encoded: str) -> str:
    r"""Escape characters that control a terminal in encoded JSON, as `\uXXXX`. The result is equal JSON.

    >>> json_line('{"id":"\x9b2J\u202e"}')
    '{"id":"\\u009b2J\\u202e"}'
    """
    return _UNSAFE_IN_JSON.sub(_json_escape, encoded)


def csv_cell(text: str) -> str:
    """For a cell of a CSV file: puts an apostrophe before text that a spreadsheet would read as a formula.

    Also after a comma, semicolon, tab or line end within the cell. Numbers are unchanged. `csv_value` is the inverse.

    >>> csv_cell("=HYPERLINK(A1)"), csv_cell("-12.50"), csv_cell("'=x"), csv_cell("a;=x")
    ("'=HYPERLINK(A1)", '-12.50', "''=x", "a;'=x")
    """
    text = _FORMULA_WITHIN.sub(r"\1'", text)
    return f"'{text}" if _is_formula(text.lstrip("'")) else text


def csv_value(cell: str) -> str:
    """Original text of a cell that `csv_cell` wrote.

    >>> csv_value("'=HYPERLINK(A1)"), csv_value("-12.50"), csv_value("''=x"), csv_value("a;'=x")
    ('=HYPERLINK(A1)', '-12.50', "'=x", 'a;=x')
    """
    cell = cell[1:] if cell.startswith("'") and _is_formula(cell.lstrip("'")) else cell
    return _GUARDED_WITHIN.sub(r"\1", cell)


def plot_text(text: str, longest: int = MAX_LABEL_LENGTH) -> str:
    r"""For text in a figure: escapes `$`, so that matplotlib draws the text literally.

    >>> plot_text(r"$\frac{$")
    '\\$\\frac{\\$'
    """
    return printable(text, longest).replace("$", r"\$")


def html_text(text: str) -> str:
    """For HTML, between tags and within quoted attributes.

    >>> html_text('<a href="x">')
    '&lt;a href=&quot;x&quot;&gt;'
    """
    return html.escape(printable(text))


def drawn_html_text(text: str) -> str:
    """For text that is written to HTML and drawn in figures, as SweetViz does with names and values of a table.

    >>> drawn_html_text(r"$\\frac{$ <b>")
    '&#36;\\\\frac{&#36; &lt;b&gt;'
    """
    return html_text(text).replace("$", "&#36;")


def pdf_text(text: str, longest: int = MAX_CELL_LENGTH) -> str:
    """For a paragraph of reportlab, which parses XML.

    >>> pdf_text("<b>& co")
    '&lt;b&gt;&amp; co'
    """
    return escape(printable(text, longest))


def chat_text(text: str) -> str:
    r"""For a message of Slack or Mattermost: a code span, in which mentions, links and markup have no effect.

    A zero-width space breaks mentions and links, for receivers that interpret them inside code spans, too.

    >>> chat_text("<!channel> `x`")
    "`&lt;!channel&gt; 'x'`"
    >>> chat_text("@all see [this](https://x)").count(ZERO_WIDTH_SPACE)
    3
    """
    text = printable(text).replace("`", "'").replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    for acting, at in (("@", 1), ("](", 1), ("://", 1), ("www.", 3)):
        text = text.replace(acting, acting[:at] + ZERO_WIDTH_SPACE + acting[at:])
    return f"`{text}`" if text else ""


def mail_header(text: str, longest: int = 200) -> str:
    r"""For the text of a mail header: one line.

    >>> mail_header("x\r\nBcc: eve@example.org")
    'x\\r\\nBcc: eve@example.org'
    """
    return printable(text, longest)


class KnownNames:
    """Bounds the number and length of names from the input: keeps the first `limit` names, others become `other`.

    For labels of metrics and keys of state, whose memory grows with each new name.

    >>> names = KnownNames(limit=2)
    >>> [names.name(code) for code in ("a", "b", "c", "a")]
    ['a', 'b', 'other', 'a']
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._known: set[str] = set()

    def name(self, text: str) -> str:
        """Return the name under which to count `text`."""
        name = printable(text, MAX_NAME_LENGTH)
        if name not in self._known:
            if len(self._known) >= self._limit:
                return OTHER
            self._known.add(name)
        return name


def _without_user_info(line: str) -> str:
    """Mask user and password in each URL of a line. Linear in the length of the line."""
    shown: list[str] = []
    at, last = 0, line.rfind("@")
    while 0 <= (found := line.find("://", at)) < last:
        begin = found + 3
        shown.append(line[at:begin])
        at = _end_of_user_info(line, begin, last)
        if at > begin:
            shown.append("***")
    return "".join(shown) + line[at:]


def _end_of_user_info(line: str, begin: int, last: int) -> int:
    """Index of the `@` that ends user and password of the URL whose authority starts at `begin`; else `begin`."""
    if line.startswith("/", begin):  # a path, as in file:/// or sqlite:///
        return begin
    end = line.find("://", begin)  # of the next URL
    end = len(line) if end < 0 else end
    password = _PASSWORD_FOLLOWS.match(line, begin) is not None
    if (cut := line.rfind("@", begin, end)) < 0:
        # A password may contain `://`.
        return line.index("@", begin) if password and begin <= last else begin
    if password or _DIGITS_THEN_AT.match(line, begin):
        return cut
    word = _WORD.match(line, begin, end)
    return max(begin, line.rfind("@", begin, word.end())) if word else begin


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def _json_escape(found: re.Match[str]) -> str:
    units = found.group().encode("utf-16-be")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))


def _is_formula(text: str) -> bool:
    return bool(_FORMULA.match(text)) and not _NUMBER.fullmatch(text)
