"""Command lines that stand in files, held to the commands that there are."""

import typer
from typer.core import TyperGroup

from tamiz.main import app


def parse(words: list[str]) -> None:
    """Hold a command line of ours to the options and arguments that there are, as the program does before it runs.

    Raises what Typer raises of an unknown option, a bad value, one too few or too many.
    """
    command = typer.main.get_command(app)
    context = command.context_class(command)
    while isinstance(command, TyperGroup) and (words or not command.invoke_without_command):
        found = command.get_command(context, words[0])
        assert found is not None, f"there is no `tamiz {' '.join(words)}`"
        command, words = found, words[1:]
        context = command.context_class(command, parent=context)
    command.parse_args(context, list(words))
