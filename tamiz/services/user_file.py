"""Changes the users file under a lock, with atomic writes."""

import fcntl
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from schemas.errors import ConfigError
from schemas.security.web_users import MAX_USERS, ROLES, User, is_user_name, new_user, read_users


def add_user(path: Path, name: str, roles: Sequence[str]) -> str:
    """Add a user; returns the token, which is not stored.

    Raises ConfigError for an invalid name or role, and for an existing name.
    """
    if not is_user_name(name):
        raise ConfigError(
            f"user name {name!r} is invalid; use up to 64 of a-z A-Z 0-9 . _ @ -, a letter or digit first"
        )
    if bad := [role for role in roles if role not in ROLES]:
        raise ConfigError(f"--role {bad[0]!r}: the roles are {', '.join(ROLES)}")
    with _locked(path):
        users = users_of(path)
        if any(user.name == name for user in users):
            raise ConfigError(
                f"{path} already has a user {name!r}; for a new token, run `tamiz users remove {name}` first"
            )
        if len(users) >= MAX_USERS:
            raise ConfigError(f"{path} holds {len(users)} users, the maximum is {MAX_USERS}; remove one first")
        user, token = new_user(name, (role for role in ROLES if role in roles))
        _write(path, [*_lines(path), user.line()])
    return token


def remove_user(path: Path, name: str) -> None:
    """Remove a user. Raises ConfigError if the name does not exist."""
    with _locked(path):
        if not any(user.name == name for user in users_of(path)):
            raise ConfigError(f"{path} has no user {name!r}; `tamiz users list` shows the existing ones")
        _write(path, [line for line in _lines(path) if line.split()[:1] != [name]])


def users_of(path: Path) -> tuple[User, ...]:
    """Users of a file; empty if the file does not exist. Raises ConfigError for an invalid line."""
    users, problems = read_users("\n".join(_lines(path)))
    if problems:
        raise ConfigError(f"{path}, {problems[0]}")
    return users


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"web_users_file {path} cannot be read: {error}") from None


def _write(path: Path, lines: list[str]) -> None:
    # A new file is private to its owner; an existing one keeps its mode, owner and group, because services read it.
    before = path.stat() if path.exists() else None
    try:
        number, scratch = tempfile.mkstemp(dir=path.parent, prefix=path.name)
        try:
            with open(number, "w", encoding="utf-8") as file:
                file.write("".join(f"{line}\n" for line in lines))
                file.flush()
                if before is not None:
                    _keep_owner(file.fileno(), before)
                    os.fchmod(file.fileno(), before.st_mode & 0o777)  # after the owner: fchown may clear mode bits
                os.fsync(file.fileno())
            os.replace(scratch, path)
        except BaseException:
            os.unlink(scratch)
            raise
    except OSError as error:
        raise ConfigError(f"web_users_file {path} cannot be written: {error.strerror}") from None


def _keep_owner(number: int, before: os.stat_result) -> None:
    """Give an open file the owner and group of the file that it replaces. Raises OSError if that is not permitted."""
    found = os.fstat(number)
    if (found.st_uid, found.st_gid) != (before.st_uid, before.st_gid):
        os.fchown(number, before.st_uid, before.st_gid)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Exclusive lock against concurrent changes. Locks the folder, because the file itself is replaced."""
    try:
        folder = os.open(path.parent, os.O_RDONLY)
    except OSError as error:
        raise ConfigError(f"web_users_file {path}: its folder cannot be opened: {error.strerror}") from None
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)
