r"""Text that others wrote, made safe for each kind of output. Pure.

Ids, levels, reasons, keys and headers come from whoever may produce to a topic. Each output has characters that act: an
escape sequence moves the cursor of a terminal, a line feed starts a log line, `$` starts a formula in a figure, `=` one
in a spreadsheet, `<` a tag, `@` a mention. One function for each output; `printable` is beneath all of them.

| output | function | what it makes harmless |
|---|---|---|
| terminal, markup off | `terminal` | control characters, ANSI escapes, bidirectional overrides, line feeds |
| log, and errors on standard error | `log_line`, `indented` | the same; a second line never starts at the margin |
| JSON on a terminal or in a log | `json_line` | what JSON leaves unescaped: DEL, C1 controls, bidirectional overrides |
| CSV | `csv_cell`, `csv_value` reads it | formulas of spreadsheets |
| figures of matplotlib | `plot_text` | mathtext between two `$` |
| HTML | `html_text`, `drawn_html_text` | tags, entities, quotes; mathtext, too |
| PDF paragraphs of reportlab | `pdf_text` | its XML, and texts longer than a page |
| chat | `chat_text` | mentions, links, markup of Slack and Mattermost |
| mail headers | `mail_header` | a second header |
| anything that may hold an address | `without_credentials`, `masked` | users, passwords and tokens in URLs |
| labels of metrics, keys of state | `KnownNames` | a number of names that grows with the input |
"""

import html
import re
from typing import Any
from xml.sax.saxutils import escape

OTHER = "other"  # stands for every name beyond a limit
MAX_NAME_LENGTH = 64  # characters, of a metric's label or a key of state
MAX_CELL_LENGTH = 2_000  # characters, of a paragraph in a PDF: a table's cell cannot be split over pages
MAX_LABEL_LENGTH = 80  # characters, of a text in a figure
ZERO_WIDTH_SPACE = "\u200b"

_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?", re.ASCII)
# A spreadsheet takes a cell for a formula by its first character; it skips white space, and knows the wide forms too.
_FORMULA = re.compile(r"[\s\0]*[=+\-@|%＝＋－＠]|[\t\r\n\0]")
# A program that splits at another separator than the file's sees a cell begin after it.
_FORMULA_WITHIN = re.compile(r"([;,\t\n\r] *\"?'*)(?=[=+\-@＝＋－＠])")
_GUARDED_WITHIN = re.compile(r"([;,\t\n\r] *\"?'*)'(?=[=+\-@＝＋－＠])")
# A user with a colon before what is no port: a password follows, whatever characters it has.
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
    r"""One line of printable characters: all others as escapes; cut to `longest` characters, the last being `…`.

    Not printable are control characters, line separators, bidirectional overrides, zero-width characters, lone
    surrogates and spaces other than the space.

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
    """A text with users and passwords in addresses, secrets in their queries, and HTTP's credentials masked.

    A password need not be encoded: it may hold `/`, `@`, `#` and spaces. Where it is unclear what ends it, more is
    masked rather than less. Give it a text before it is cut or escaped: what is cut has no `@` any more.

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


def masked(value: Any) -> Any:
    """Built-in values with every text in them `without_credentials`: masked before they are encoded as JSON, or what a
    mask takes away may be a part of the JSON itself.

    >>> masked({"uri": ["http://u:p/w@h", 1]})
    {'uri': ['http://***@h', 1]}
    """
    if isinstance(value, str):
        return without_credentials(value)
    if isinstance(value, dict):
        return {masked(key): masked(found) for key, found in value.items()}
    if isinstance(value, list | tuple):
        return [masked(found) for found in value]
    return value


def terminal(text: str, longest: int | None = None) -> str:
    """For a terminal on which markup is off, as on the consoles of `tamiz/terminal.py`: one printable line."""
    return printable(text, longest)


def log_line(text: str) -> str:
    """For a log: one printable line."""
    return printable(text)


def indented(text: str) -> str:
    r"""For what has several lines, such as a traceback: printable lines, each but the first indented.

    >>> indented("Error: x\n2026-11-27 00:00:00,000 INFO forged\x1b[0m")
    'Error: x\n  2026-11-27 00:00:00,000 INFO forged\\x1b[0m'
    """
    return "\n  ".join(printable(line.replace("\t", "    ")) for line in text.split("\n"))


def json_line(encoded: str) -> str:
    r"""JSON that was encoded already, with what acts on a terminal written as `\uXXXX`: equal JSON.

    >>> json_line('{"id":"\x9b2J\u202e"}')
    '{"id":"\\u009b2J\\u202e"}'
    """
    return _UNSAFE_IN_JSON.sub(_json_escape, encoded)


def csv_cell(text: str) -> str:
    """For a cell of a CSV file: what a spreadsheet would take for a formula gets an apostrophe before it.

    So does what follows a comma, a semicolon, a tab or the end of a line within the cell. Numbers stay as they are.
    `csv_value` gives the text back.

    >>> csv_cell("=HYPERLINK(A1)"), csv_cell("-12.50"), csv_cell("'=x"), csv_cell("a;=x")
    ("'=HYPERLINK(A1)", '-12.50', "''=x", "a;'=x")
    """
    text = _FORMULA_WITHIN.sub(r"\1'", text)
    return f"'{text}" if _is_formula(text.lstrip("'")) else text


def csv_value(cell: str) -> str:
    """The text of a cell that `csv_cell` wrote.

    >>> csv_value("'=HYPERLINK(A1)"), csv_value("-12.50"), csv_value("''=x"), csv_value("a;'=x")
    ('=HYPERLINK(A1)', '-12.50', "'=x", 'a;=x')
    """
    cell = cell[1:] if cell.startswith("'") and _is_formula(cell.lstrip("'")) else cell
    return _GUARDED_WITHIN.sub(r"\1", cell)


def plot_text(text: str, longest: int = MAX_LABEL_LENGTH) -> str:
    r"""For a text in a figure: matplotlib draws it literally, also `$`.

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
    """For what goes both into HTML and into figures, as SweetViz does with the names and values of a table.

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
    r"""For a message of Slack or Mattermost: a code span, in which neither mention nor link nor markup acts.

    A zero-width space goes into what either takes for a mention or a link, for receivers that look into code spans too.

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
    r"""For the text of a mail's header: one line.

    >>> mail_header("x\r\nBcc: eve@example.org")
    'x\\r\\nBcc: eve@example.org'
    """
    return printable(text, longest)


class KnownNames:
    """Names that the input brings, limited in number and length: the first `limit` are known, all others `other`.

    For labels of metrics and keys of state, whose memory grows with each new name.

    >>> names = KnownNames(limit=2)
    >>> [names.name(code) for code in ("a", "b", "c", "a")]
    ['a', 'b', 'other', 'a']
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._known: set[str] = set()

    def name(self, text: str) -> str:
        """The name to count under."""
        name = printable(text, MAX_NAME_LENGTH)
        if name not in self._known:
            if len(self._known) >= self._limit:
                return OTHER
            self._known.add(name)
        return name


def _without_user_info(line: str) -> str:
    """One line, each address in it without user and password. Takes time in proportion to the line's length."""
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
    """Where the `@` is that ends user and password of the address whose authority begins at `begin`; else `begin`."""
    if line.startswith("/", begin):  # a path, as of a file or of SQLite
        return begin
    end = line.find("://", begin)  # of the next address
    end = len(line) if end < 0 else end
    password = _PASSWORD_FOLLOWS.match(line, begin) is not None
    if (cut := line.rfind("@", begin, end)) < 0:
        # A password may hold `://` as well.
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
