"""`tamiz users`: manage who may use the web pages."""

from typing import TYPE_CHECKING, Annotated

import typer

from schemas.configuration import settings as config

if TYPE_CHECKING:
    from pathlib import Path

Name = Annotated[str, typer.Argument(help="Name of a person or a program.", show_default=False)]
Roles = Annotated[
    list[str],
    typer.Option(
        "--role",
        help="read: see the live page. approve: also approve and reject models. scrape: read /metrics. "
        "May be repeated.",
        metavar="read|approve|scrape",
        show_default=False,
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    users = typer.Typer(no_args_is_help=True, help="Manage the users of the web pages (`web_users_file`).")
    app.add_typer(users, name="users")

    @users.command()
    def add(name: Name, role: Roles) -> None:
        """Add a user and print the new access token. Only its hash is stored.

        Example:

            tamiz users add alice --role read --role approve

        Read on: docs/deployment.md.
        """
        import sys

        from tamiz.services.user_file import add_user

        path = _file()
        print(add_user(path, name, role))
        print(f"{path}: {name} was added; the token is not shown again", file=sys.stderr)

    @users.command()
    def remove(name: Name) -> None:
        """Remove a user. Their token and sessions become invalid within a second.

        Example:

            tamiz users remove alice

        Read on: docs/deployment.md.
        """
        from tamiz.services.user_file import remove_user

        path = _file()
        remove_user(path, name)
        print(f"{path}: {name} was removed")

    @users.command("list")
    def list_() -> None:
        """List users and their roles, without tokens or hashes.

        Example:

            tamiz users list

        Read on: docs/deployment.md.
        """
        from tamiz.services.user_file import users_of

        for user in users_of(_file()):
            print(f"{user.name}  {', '.join(sorted(user.roles))}")


def _file() -> "Path":
    from schemas.errors import ConfigError

    path = config.load().web_users_file
    if path is None:
        raise ConfigError("web_users_file (TAMIZ_WEB_USERS_FILE) is not set; set it to the path of the users' file")
    return path
