"""`tamiz archive`: keep decisions and logged values beyond the retention of their topics."""

from typing import TYPE_CHECKING, Annotated

import typer

from schemas.configuration import settings as config

if TYPE_CHECKING:
    from tamiz.archive.archiver import ArchiveResult


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def archive(
        as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    ) -> None:
        """Copy decisions, rule matches and logged values to the archive, by day.

        Writes each day that has ended (UTC) and is not archived yet to
        `archive_root`: one Parquet file and one manifest for each day and
        partition. A day with a manifest is whole. A run that was stopped is
        continued by the next one. The exit code is 1 if retention deleted
        records before they were archived. Run it every day.

            tamiz archive

        Read on: docs/archive.md.
        """
        from tamiz.archive.archiver import archive as archive_days
        from tamiz.terminal import Terminal, progress_line, say_json

        with progress_line(Terminal(stderr=True)) as progress:
            found = archive_days(config.load(), progress=progress)
        if as_json:
            say_json(found)
        else:
            _print_table(found)
        raise typer.Exit(1 if found.faults else 0)


def _print_table(found: "ArchiveResult") -> None:
    from collections import Counter

    from rich.table import Table

    from tamiz.terminal import Terminal, say, warn

    for fault in found.faults:
        warn(fault)
    records, size = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for file in found.files:
        records[file.day.isoformat(), file.topic] += file.records
        size[file.day.isoformat(), file.topic] += file.bytes
    if records:
        table = Table("day", "topic", "records", "bytes")
        for day, topic in sorted(records):
            table.add_row(day, topic, f"{records[day, topic]:,}", f"{size[day, topic]:,}")
        Terminal().print(table)
    if not found.faults:
        say(f"{found.root}: all days up to {found.until} are archived")
