"""The command `tamiz`: one sub-command a file in `tamiz/commands/`."""

import sys

import typer

from schemas.errors import TamizError

app = typer.Typer(name="tamiz", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


def run() -> None:
    """Run the command line; our own errors end it with one readable line and exit code 2."""
    try:
        app()
    except TamizError as error:
        print(f"tamiz: {error}", file=sys.stderr)
        sys.exit(2)
