"""What commands write on a terminal: texts that others wrote act on none of it, whatever they hold.

Ids, levels, reasons and error texts reach these functions as they are; markup is off, so that a style is said by a
`rich.text.Text` or by `style=`, never within a text. Users and passwords in addresses are masked.
"""

from collections.abc import Iterable
from typing import Any

import msgspec
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.status import Status
from rich.text import Text

from schemas.security import sanitizer
from schemas.security.standard_error import write_error


class Terminal(Console):
    """A console of rich without markup, emoji codes and highlighting, that writes printable characters only.

    A string is one line: a line feed within it is written as an escape.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """A string as a line, before it is laid out."""
        return super().render_str(sanitizer.terminal(sanitizer.without_credentials(text)), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """What is written in the end, also of the texts that do not pass `render_str`."""
        if (
            isinstance(renderable, Text)
            and (shown := sanitizer.without_credentials(renderable.plain)) != renderable.plain
        ):
            renderable = Text(shown, renderable.style, justify=renderable.justify, end=renderable.end)
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable() or segment.text == "\n":
                yield segment
            else:
                lines = segment.text.split("\n")
                yield Segment("\n".join(map(sanitizer.terminal, lines)), segment.style)

    def status(self, status: RenderableType, **options: Any) -> Status:
        """A line that is gone at the end."""
        return super().status(Text(status) if isinstance(status, str) else status, **options)


def say(text: str) -> None:
    """One line on standard output, however long."""
    print(sanitizer.terminal(sanitizer.without_credentials(text)))


def warn(text: str) -> None:
    """One yellow line on standard error, however long."""
    Terminal(stderr=True).print(text, style="yellow", soft_wrap=True)


def say_json(record: object, *, indent: int = 2) -> None:
    """A record on standard output, for machines; it may be read on a terminal all the same. indent: -1 for one line."""
    values = msgspec.json.decode(msgspec.json.encode(record))  # built-in ones, also where a part is encoded already
    encoded = msgspec.json.format(msgspec.json.encode(sanitizer.masked(values)), indent=indent)
    print(sanitizer.json_line(encoded.decode()))


def say_error(error: BaseException) -> None:
    """An error of ours on standard error: its first line, and others indented below."""
    write_error(f"tamiz: {error}")
