"""`tamiz redrive`: send corrected dead letters back to `transactions`."""

from pathlib import Path
from typing import Annotated

import typer

from schemas.configuration import settings as config
from schemas.errors import ConfigError


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def redrive(
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be sent; send nothing.")] = False,
        limit: Annotated[int | None, typer.Option(min=1, help="Send at most this many records.")] = None,
        replace: Annotated[
            list[str] | None,
            typer.Option(metavar="TRANSACTION_ID=FILE", help="Send FILE instead of the payload. May be repeated."),
        ] = None,
        as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    ) -> None:
        """Send dead letters back to `transactions` once they can be scored, never twice.

        A dead letter is sent back if the data set's declaration now accepts it,
        or with the payload that --replace gives. The others stay on
        `dead-letters`.

            tamiz redrive --dry-run
            tamiz redrive --replace shop-4711=corrected.json

        Read on: docs/respond.md, docs/produce.md.
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
            f"{result.sent_back:,} {'would be sent' if dry_run else 'sent'} back to {settings.transactions_topic}; "
            f"{result.sent_before:,} already sent before; {sum(result.invalid.values()):,} still invalid"
        )
        for count, what in (
            (sum(result.refused.values()), "not sent: the broker or its client refused them"),
            (result.originals_missing, "not sent: truncated dead letters whose original transaction is deleted"),
            (result.headers_missing, "sent without truncated headers, because the original transaction is deleted"),
            (result.unreadable, "skipped: records on dead-letters that do not name their origin"),
            (result.unusable_redrives, f"skipped: records on {settings.redrives_topic} that Tamiz did not write"),
        ):
            if count:
                console.print(f"{count:,} {what}")
        for transaction in result.not_found:
            console.print(f"--replace {transaction[:200]}: no dead letter has this transaction id")
        counts = result.invalid | result.refused
        if result.originals_missing:
            counts |= {"original-missing": result.originals_missing}
        if counts:
            table = Table("not sent, by code", "count", "example")
            for code, count in sorted(counts.items(), key=lambda pair: -pair[1]):
                table.add_row(code, f"{count:,}", result.examples[code][:400])
            console.print(table)


def _replacement(text: str) -> tuple[str, bytes]:
    transaction, _, file = text.partition("=")
    try:
        return transaction, Path(file).read_bytes()
    except OSError as error:
        raise ConfigError(f"--replace {text!r}: expected TRANSACTION_ID=FILE: {error}") from None
