"""`tamiz redrive`: dead letters back to the transactions."""

from pathlib import Path
from typing import Annotated

import typer

from schemas.configuration import settings as config
from schemas.errors import ConfigError


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def redrive(
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be sent back.")] = False,
        limit: Annotated[int | None, typer.Option(min=1, help="Send back at most so many.")] = None,
        replace: Annotated[
            list[str] | None,
            typer.Option(metavar="TRANSACTION_ID=FILE", help="Send this file instead of the payload; may be repeated."),
        ] = None,
        as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
    ) -> None:
        """Send dead letters back once they are mended, never twice.

        Mended is what the data set's declaration, which may have been corrected, now accepts, or what you replace. The
        others stay where they are.
        """
        from schemas.dataset.declaration import load_dataset
        from stream_app.redrive.redrive import redrive as send_back
        from tamiz.terminal import Terminal, say_json

        settings = config.load()
        result = send_back(
            settings,
            load_dataset(settings.dataset),
            dry_run=dry_run,
            limit=limit,
            replacements=dict(map(_replacement, replace or ())),
        )
        if as_json:
            say_json({"dry_run": dry_run, **result._asdict()}, indent=-1)
            return
        from rich.table import Table

        console = Terminal()
        console.print(
            f"{result.sent_back:,} {'would go' if dry_run else 'sent'} back to {settings.transactions_topic}; "
            f"{result.went_before:,} went back before; {sum(result.broken.values()):,} still broken"
        )
        for count, what in (
            (sum(result.refused.values()), "could not be sent: the broker or its client refused them"),
            (result.originals_gone, "were cut when they were written, and their originals are no longer there"),
            (result.headers_lost, "of those sent back lack headers that were cut, for the original is gone"),
            (result.unreadable, "records are no dead letters of ours: they do not say their origin"),
            (result.unusable_redrives, f"records of {settings.redrives_topic} are none of ours and were passed over"),
        ):
            if count:
                console.print(f"{count:,} {what}")
        for transaction in result.not_found:
            console.print(f"nothing to replace: no dead letter of {transaction[:200]}")
        counts = result.broken | result.refused
        if result.originals_gone:
            counts |= {"original-gone": result.originals_gone}
        if counts:
            table = Table("not sent back", "count", "for example")
            for code, count in sorted(counts.items(), key=lambda pair: -pair[1]):
                table.add_row(code, f"{count:,}", result.examples[code][:400])
            console.print(table)


def _replacement(text: str) -> tuple[str, bytes]:
    transaction, _, file = text.partition("=")
    try:
        return transaction, Path(file).read_bytes()
    except OSError as error:
        raise ConfigError(f"--replace {text!r}: wanted TRANSACTION_ID=FILE: {error}") from None
