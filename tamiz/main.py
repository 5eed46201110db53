"""The command `tamiz`: one sub-command a file in `tamiz/commands/`."""

import importlib
import io
import os
import pkgutil
import sys

import typer

from schemas.errors import TamizError
from schemas.files.private_files import UMASK
from tamiz import commands

app = typer.Typer(name="tamiz", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def about() -> None:
    """Tamiz scores card transactions for fraud as they happen.

    A first round: `tamiz broker` in one terminal; then `tamiz topics create`, `tamiz simulate`, `tamiz train`,
    `tamiz worker`; and `tamiz tail decisions`. Or all of it at once: `tamiz demo`.
    """


def _command(module: pkgutil.ModuleInfo) -> str:
    return module.name.rpartition(".")[2]


for found in sorted(pkgutil.walk_packages(commands.__path__, "tamiz.commands."), key=_command):
    if not found.ispkg:
        importlib.import_module(found.name).register(app)


def run() -> None:
    """Run the command line; our own errors end it with one readable line and exit code 2."""
    from schemas.security.standard_error import guard_standard_error
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
