"""Checks command lines in files against the commands of the program."""

from typing import Any

import typer
from typer.core import TyperGroup

from tamiz.main import app


def parse(words: list[str]) -> dict[str, Any]:
    """Parse a command line as the program does before it runs. Returns the values of its parameters.

    Raises Typer's errors for an unknown option, an invalid value, or a missing or extra argument.
    """
    command = typer.main.get_command(app)
    context = command.context_class(command)
    while isinstance(command, TyperGroup) and not (command.invoke_without_command and (words or ["-"])[0][0] == "-"):
        found = command.get_command(context, words[0])
        assert found is not None, f"there is no `tamiz {' '.join(words)}`"
        command, words = found, words[1:]
        context = command.context_class(command, parent=context)
    command.parse_args(context, list(words))
    return dict(context.params)
