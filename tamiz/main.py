"""The command `tamiz`: imports and registers every module of `tamiz/commands/`."""

import contextlib
import errno
import importlib
import io
import os
import pkgutil
import sys

import typer

from schemas.configuration import settings as config
from schemas.errors import ConfigError, TamizError
from schemas.files.compiled_code import BUILT, use_compiled_code
from schemas.files.private_files import UMASK
from tamiz import commands

# Conditions of a disk that end a command in the middle of its work; they are no faults of the program.
STORAGE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)

app = typer.Typer(name="tamiz", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def about() -> None:
    """Tamiz scores card transactions for fraud as they arrive on Kafka.

    Workers read `transactions` and write one decision for each. A monitor
    detects drift, a retrainer trains new models, a dashboard shows both.

    Everything at once, on a temporary broker:

        tamiz demo

    Step by step (broker and worker in terminals of their own):

        tamiz broker
        tamiz topics create
        tamiz simulate --rows 30000 --signal --output history.csv
        tamiz train history.csv
        tamiz worker
        tamiz simulate --rows 1000 --signal --produce
        tamiz tail decisions --from-beginning

    Read on: docs/tutorial.md, and `tamiz COMMAND --help`.
    """
    if BUILT.is_dir():
        with contextlib.suppress(ConfigError):  # a command that needs the settings reports it
            use_compiled_code(config.load().state_dir)


def _command_name(module: pkgutil.ModuleInfo) -> str:
    return module.name.rpartition(".")[2]


for module_info in sorted(pkgutil.walk_packages(commands.__path__, "tamiz.commands."), key=_command_name):
    if not module_info.ispkg:
        importlib.import_module(module_info.name).register(app)


def run() -> None:
    """Run the command line. A `TamizError` or a full disk ends it with one line on standard error and exit code 2."""
    from schemas.security.standard_error import guard_standard_error
    from tamiz.terminal import say_error

    os.umask(UMASK)  # files of this process and its children are private to the user
    guard_standard_error()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal without UTF-8 must not end a command
    try:
        app()
    except TamizError as error:
        say_error(error)
        sys.exit(2)
    except OSError as error:
        if error.errno not in STORAGE_ERRORS:
            raise
        file = f" ({error.filename})" if error.filename else ""
        say_error(TamizError(f"{error.strerror}{file}: free some space or permit writing, then repeat the command"))
        sys.exit(2)
