"""The command `tamiz`: one sub-command a file in `tamiz/commands/`."""

import importlib
import io
import os
import pkgutil
import sys

import typer

from schemas.errors import TamizError
from schemas.private_files import UMASK
from tamiz import commands

app = typer.Typer(name="tamiz", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def about() -> None:
    """Tamiz scores card transactions for fraud as they happen.

    A first round: `tamiz broker` in one terminal; then `tamiz topics create`, `tamiz simulate`, `tamiz train`,
    `tamiz worker`; and `tamiz tail decisions`. Or all of it at once: `tamiz demo`.
    """


for found in sorted(pkgutil.iter_modules(commands.__path__), key=lambda m: m.name):
    importlib.import_module(f"tamiz.commands.{found.name}").register(app)


def run() -> None:
    """Run the command line; our own errors end it with one readable line and exit code 2."""
    from schemas.standard_error import guard_standard_error
    from tamiz.terminal import say_error

    os.umask(UMASK)  # what we and our children make, others cannot read
    guard_standard_error()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that has no UTF-8 ends no command
    try:
        app()
    except TamizError as error:
        say_error(error)
        sys.exit(2)
