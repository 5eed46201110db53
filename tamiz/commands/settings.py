"""`tamiz settings`: what can be set, and what is."""

import json
from typing import Annotated

import typer

from schemas import settings as config


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def settings(
        as_json: Annotated[bool, typer.Option("--json", help="For machines: name -> value.")] = False,
    ) -> None:
        """List every setting: its value here, its default and what it means.

        Set one as TAMIZ_NAME in the environment, or as `name` in tamiz.toml; the environment wins.
        """
        from rich.console import Console
        from rich.table import Table

        now = config.load()
        if as_json:
            print(json.dumps({name: _plain(getattr(now, name)) for name, _, _ in config.describe()}, indent=1))
            return
        table = Table("setting", "value", "default", "meaning", title="Settings")
        for name, default, about in config.describe():
            value = getattr(now, name)
            shown = _plain(value)
            table.add_row(
                name, f"[bold]{shown}[/bold]" if value != default else str(shown), str(_plain(default)), about
            )
        Console().print(table)


def _plain(value: object) -> object:
    return value if isinstance(value, int) else "" if value is None else str(value)
