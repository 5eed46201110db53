"""PDF layout with reportlab: paragraphs, tables, figures and page footers on A4. Independent of models and metrics."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.platypus import Image, KeepTogether, Paragraph, SimpleDocTemplate, Spacer, Table, TableStyle

from schemas.security.sanitizer import pdf_text, printable

PLAIN, BOLD = "DejaVuSans", "DejaVuSans-Bold"
MARGIN = 18 * mm
WIDTH = A4[0] - 2 * MARGIN
INK, MUTED, RULE, HEAD = (colors.HexColor(c) for c in ("#1A1A1A", "#5A5A5A", "#D0D5DA", "#E8EEF4"))
TONES = {"good": "#DDF0E6", "bad": "#FBE3D6", "open": "#F1F1F1"}
DPI = 150
MAX_HEAD_LENGTH, MAX_LINE_LENGTH = 80, 200  # characters; limited, because reportlab cannot split a row over pages

BODY = ParagraphStyle("body", fontName=PLAIN, fontSize=9, leading=13, textColor=INK, spaceAfter=4)
SMALL = ParagraphStyle("small", BODY, fontSize=7.5, leading=10, textColor=MUTED)
CELL = ParagraphStyle("cell", BODY, fontSize=7.5, leading=9.5, spaceAfter=0)
NUMBER = ParagraphStyle("number", CELL, alignment=2)
CELL_HEAD = ParagraphStyle("cell head", CELL, fontName=BOLD)
NUMBER_HEAD = ParagraphStyle("number head", NUMBER, fontName=BOLD)
TITLE = ParagraphStyle("title", BODY, fontName=BOLD, fontSize=18, leading=23, spaceAfter=2)
SECTION = ParagraphStyle("section", BODY, fontName=BOLD, fontSize=12.5, leading=16, spaceBefore=12, spaceAfter=5)

Flow = list[Any]


def title(words: str) -> Any:
    """The report's title."""
    return _line(words, TITLE)


def text(words: str, *, small: bool = False) -> Any:
    """A paragraph; markup in the words is escaped."""
    return Paragraph(pdf_text(words), SMALL if small else BODY)


def section(head: str, first: Sequence[Any], rest: Sequence[Any] = ()) -> Flow:
    """A section with a heading, kept on one page with the flowables of `first`."""
    return [KeepTogether([_line(head, SECTION), *first]), *rest]


def callout(head: str, words: str, tone: str) -> Any:
    """A shaded box for important text. tone: a key of `TONES`."""
    inside = [_line(head, ParagraphStyle("callout", BODY, fontName=BOLD, fontSize=10.5)), text(words)]
    box = Table([[inside]], colWidths=[WIDTH])
    box.setStyle(
        TableStyle([("BACKGROUND", (0, 0), (-1, -1), colors.HexColor(TONES[tone])), ("TOPPADDING", (0, 0), (-1, -1), 7),
                    ("LEFTPADDING", (0, 0), (-1, -1), 9), ("RIGHTPADDING", (0, 0), (-1, -1), 9)])
    )  # fmt: skip
    return box


def facts(pairs: Sequence[tuple[str, str]]) -> Any:
    """A table of names and values, one pair per line."""
    rows = [[_line(a, CELL_HEAD), Paragraph(pdf_text(b), CELL)] for a, b in pairs]
    return _ruled(Table(rows, colWidths=[38 * mm, WIDTH - 38 * mm]))


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, shares: Sequence[float], words: int = 1) -> Any:
    """A table whose heads repeat on every page.

    shares: relative column widths. words: number of text columns, from the left; the other columns hold numbers and
    are right-aligned.
    """
    cells = [
        [_line(h[:MAX_HEAD_LENGTH], CELL_HEAD if i < words else NUMBER_HEAD) for i, h in enumerate(heads)],
        *([_line(c, CELL if i < words else NUMBER) for i, c in enumerate(row)] for row in rows),
    ]
    ruled = _ruled(Table(cells, colWidths=[WIDTH * s / sum(shares) for s in shares], repeatRows=1))
    ruled.setStyle(TableStyle([("BACKGROUND", (0, 0), (-1, 0), HEAD)]))
    return ruled


def pictures(figures: Sequence[Figure], columns: int, share: float = 1.0) -> Flow:
    """Figures in a grid of equal columns. share: of the page width that all columns together take."""
    width = WIDTH * share / columns
    images = [_image(figure, width - 2 * mm) for figure in figures]
    rows = [images[i : i + columns] for i in range(0, len(images), columns)]
    padding = [(f"{side}PADDING", (0, 0), (-1, -1), 1 * mm) for side in ("LEFT", "RIGHT", "TOP", "BOTTOM")]
    style = TableStyle([("VALIGN", (0, 0), (-1, -1), "MIDDLE"), *padding])
    return [
        Table([row + [""] * (columns - len(row))], colWidths=[width] * columns, style=style, hAlign="LEFT")
        for row in rows
    ]


def gap(points: float = 6) -> Any:
    """Vertical space."""
    return Spacer(1, points)


def write_pdf(path: Path, flow: Flow, *, name: str, footer: str) -> None:
    """Write the flowables to a PDF without timestamps, so that the same flowables give the same bytes.

    Raises OSError when the file cannot be written.
    """

    def foot(canvas: Any, document: Any) -> None:
        canvas.setFont(PLAIN, 7)
        canvas.setFillColor(MUTED)
        canvas.drawString(MARGIN, 10 * mm, printable(footer, 150))
        canvas.drawRightString(A4[0] - MARGIN, 10 * mm, f"page {document.page}")

    path.parent.mkdir(parents=True, exist_ok=True)
    document = SimpleDocTemplate(
        str(path), pagesize=A4, leftMargin=MARGIN, rightMargin=MARGIN, topMargin=16 * mm, bottomMargin=18 * mm,
        title=printable(name, MAX_LINE_LENGTH), author="Tamiz", lang="en", invariant=1,
    )  # fmt: skip
    document.build(flow, onFirstPage=foot, onLaterPages=foot)


def register_fonts() -> None:
    """Register matplotlib's DejaVu fonts with reportlab; call it before any text is laid out.

    DejaVu has glyphs such as ≥ and β. The PDF embeds only the glyphs it uses.
    """
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    for name in (PLAIN, BOLD):
        pdfmetrics.registerFont(TTFont(name, str(folder / f"{name}.ttf")))
    pdfmetrics.registerFontFamily(PLAIN, normal=PLAIN, bold=BOLD, italic=PLAIN, boldItalic=BOLD)


def _line(words: str, style: ParagraphStyle) -> Any:
    return Paragraph(pdf_text(words, MAX_LINE_LENGTH), style)


def _image(figure: Figure, width: float) -> Any:
    picture = BytesIO()
    figure.savefig(picture, format="png", dpi=DPI)
    w, h = figure.get_size_inches()
    return Image(picture, width=width, height=width * h / w)


def _ruled(table: Any) -> Any:
    table.setStyle(
        TableStyle([("LINEBELOW", (0, 0), (-1, -1), 0.4, RULE), ("VALIGN", (0, 0), (-1, -1), "MIDDLE"),
                    ("TOPPADDING", (0, 0), (-1, -1), 2), ("BOTTOMPADDING", (0, 0), (-1, -1), 2.5),
                    ("LEFTPADDING", (0, 0), (-1, -1), 4), ("RIGHTPADDING", (0, 0), (-1, -1), 4)])
    )  # fmt: skip
    table.hAlign = "LEFT"
    return table
