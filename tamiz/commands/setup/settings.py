"""`tamiz settings`: list every setting with its current value."""

from typing import Annotated

import typer

from schemas.configuration import settings as config
from schemas.security.sanitizer import without_credentials


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def settings(
        as_json: Annotated[bool, typer.Option("--json", help="Print the values as one JSON object.")] = False,
    ) -> None:
        """List every setting: its current value, its default and its meaning.

        Set one as TAMIZ_NAME in the environment, or as `name` in tamiz.toml; the
        environment takes precedence. Values that differ from the default are bold.

            tamiz settings

        Read on: docs/reference/settings.md.
        """
        from rich.table import Table
        from rich.text import Text

        from tamiz.terminal import Terminal, say_json

        now = config.load()
        if as_json:
            say_json({name: _plain(getattr(now, name)) for name, _, _ in config.describe()})
            return
        table = Table("setting", "value", "default", "meaning", title="Settings")
        for name, default, about in config.describe():
            value = getattr(now, name)
            text = Text(str(_plain(value)), "bold" if value != default else "")
            table.add_row(name, text, str(_plain(default)), about)
        Terminal().print(table)


def _plain(value: object) -> object:
    return value if isinstance(value, int) else "" if value is None else without_credentials(str(value))
