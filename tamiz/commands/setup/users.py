"""`tamiz users`: who may use the pages."""

from typing import TYPE_CHECKING, Annotated

import typer

from schemas.configuration import settings as config

if TYPE_CHECKING:
    from pathlib import Path

Name = Annotated[str, typer.Argument(help="Of a person or a program.", show_default=False)]
Roles = Annotated[
    list[str],
    typer.Option(
        "--role",
        help="read: see the live page. approve: also approve and reject models. scrape: read /metrics. Repeatable.",
        metavar="read|approve|scrape",
        show_default=False,
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    users = typer.Typer(no_args_is_help=True, help="Who may use the pages: WEB_USERS_FILE, a line for each.")
    app.add_typer(users, name="users")

    @users.command()
    def add(name: Name, role: Roles) -> None:
        """Add a user and print their new token, once, on standard output. The file keeps its hash alone."""
        import sys

        from tamiz.services.user_file import add_user

        path = _file()
        print(add_user(path, name, role))
        print(f"{path}: {name} was added. The token is shown only this once.", file=sys.stderr)

    @users.command()
    def remove(name: Name) -> None:
        """Remove a user; their token and their sessions end within a second."""
        from tamiz.services.user_file import remove_user

        path = _file()
        remove_user(path, name)
        print(f"{path}: {name} was removed")

    @users.command("list")
    def list_() -> None:
        """Show users and roles; no token and no hash."""
        from tamiz.services.user_file import users_of

        for user in users_of(_file()):
            print(f"{user.name}  {', '.join(sorted(user.roles))}")


def _file() -> "Path":
    from schemas.errors import ConfigError

    path = config.load().web_users_file
    if path is None:
        raise ConfigError("web_users_file (TAMIZ_WEB_USERS_FILE) is not set; name the file that holds the users")
    return path
