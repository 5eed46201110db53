"""Terminal output that is safe for untrusted text: control characters are escaped, credentials in URLs are masked.

Ids, category levels, reasons and error texts come from outside and are passed in unescaped. Markup is off: set a style
with `rich.text.Text` or `style=`, never within a string.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.status import Status
from rich.text import Text

from schemas.dataset.missing_columns import MissingColumn, format_missing
from schemas.security import sanitizer
from schemas.security.standard_error import write_error

if TYPE_CHECKING:
    from schemas.dataset.declaration import Dataset


class Terminal(Console):
    """A `rich.Console` without markup, emoji codes and highlighting. Writes printable characters only.

    A string is one line: a line feed within it is escaped.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Escape a string before rich lays it out."""
        return super().render_str(sanitizer.terminal(sanitizer.without_credentials(text)), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Escape every segment before it is written, including texts that do not pass through `render_str`."""
        if (
            isinstance(renderable, Text)
            and (masked := sanitizer.without_credentials(renderable.plain)) != renderable.plain
        ):
            renderable = Text(masked, renderable.style, justify=renderable.justify, end=renderable.end)
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable() or segment.text == "\n":
                yield segment
            else:
                lines = segment.text.split("\n")
                yield Segment("\n".join(map(sanitizer.terminal, lines)), segment.style)

    def status(self, status: RenderableType, **options: Any) -> Status:
        """A status line that disappears at the end."""
        return super().status(Text(status) if isinstance(status, str) else status, **options)


def say(text: str) -> None:
    """Write one line to standard output, without wrapping."""
    print(sanitizer.terminal(sanitizer.without_credentials(text)))


def warn(text: str) -> None:
    """Write one yellow line to standard error, without wrapping."""
    Terminal(stderr=True).print(text, style="yellow", soft_wrap=True)


def warn_missing_columns(file: Path, missing: Sequence[MissingColumn]) -> None:
    """Warn of declared columns that a file lacks; none: write nothing."""
    if missing:
        warn(f"{file}: {format_missing(missing)}; every row is read without; correct the names in file or declaration")


def warn_empty_profiles(file: Path, dataset: "Dataset", history: Path | None) -> None:
    """Warn that profiles of a file's first rows know no earlier transactions; without profiles: write nothing."""
    if dataset.profiles and history is None:
        warn(f"{file}: profiles begin empty at its first row; give earlier transactions with --history FILE")


@contextmanager
def progress_line(console: Terminal) -> Iterator[Callable[..., None]]:
    """Show the current step of a long command on one line, with a bar where its size is known. Removed at the end.

    Yields a function of a step's name and, optionally, how much of it is done and of how much.
    """
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("starting", total=None)

        def show(step: str, done: int = 0, of: int | None = None, /) -> None:
            description = f"{step}: {done:,} of {of:,}" if of else step
            progress.update(task, description=description, completed=done, total=of)

        yield show


def say_json(record: object, *, indent: int = 2) -> None:
    """Write a record as JSON to standard output, escaped for terminals. indent: spaces per level; -1 for one line."""
    values = msgspec.json.decode(msgspec.json.encode(record))  # resolves msgspec.Raw parts, too
    encoded = msgspec.json.format(msgspec.json.encode(sanitizer.mask_values(values)), indent=indent)
    print(sanitizer.json_line(encoded.decode()))


def say_error(error: BaseException) -> None:
    """Write an error to standard error: its first line, further lines indented below."""
    write_error(f"tamiz: {error}")
