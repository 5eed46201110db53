"""Users of the web pages: names, roles and hashed tokens, one user per line of a file. Pure.

    # name   roles          salted hash
    ana      approve        sha256:SALT:DIGEST

Tamiz generates each token from 32 random bytes, so it cannot be guessed. One SHA-256 over salt and token is enough to
make a stolen file useless, and a request is cheap to check. A slow hash (scrypt, argon2) protects passwords that people
choose; here it would only let an attacker load the server with wrong tokens.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from typing import Literal, get_args

import msgspec

Role = Literal["read", "review", "approve", "scrape"]
ROLES: tuple[Role, ...] = get_args(Role)
MIN_TOKEN_LENGTH = 32  # characters; a shorter token is refused, even if its hash is in the file
MAX_TOKEN_LENGTH = 256
MAX_USERS = 500  # a wrong token costs one hash per user
_INCLUDED_BY: dict[Role, frozenset[Role]] = {"read": frozenset({"review", "approve"}), "review": frozenset({"approve"})}
_SALT_BYTES = 16
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}", re.ASCII)
_HASH = re.compile(r"sha256:([0-9a-f]{32}):([0-9a-f]{64})", re.ASCII)
_RESERVED = frozenset({"anonymous"})  # names a user who did not sign in (`schemas.security.actor`)


class User(msgspec.Struct, frozen=True, kw_only=True):
    """A person or program with access to the web pages."""

    name: str
    roles: frozenset[Role]
    salt: bytes
    digest: bytes  # SHA-256 of salt and token

    def may(self, role: Role) -> bool:
        """Whether the user has a role; `approve` includes `review`, which includes `read`.

        >>> [new_user("ana", ["review"])[0].may(role) for role in ROLES]
        [True, True, False, False]
        """
        return role in self.roles or not _INCLUDED_BY.get(role, frozenset()).isdisjoint(self.roles)

    def has_token(self, token: bytes) -> bool:
        """Whether the token belongs to this user; compares in constant time."""
        matches = hmac.compare_digest(hashlib.sha256(self.salt + token).digest(), self.digest)
        return MIN_TOKEN_LENGTH <= len(token) <= MAX_TOKEN_LENGTH and matches

    def line(self) -> str:
        """The user as a line of the file."""
        roles = ",".join(role for role in ROLES if role in self.roles)
        return f"{self.name} {roles} sha256:{self.salt.hex()}:{self.digest.hex()}"


def new_user(name: str, roles: Iterable[Role]) -> tuple[User, str]:
    """Create a user with a new token; returns the user and the token, which is not stored."""
    token, salt = secrets.token_urlsafe(32), secrets.token_bytes(_SALT_BYTES)
    digest = hashlib.sha256(salt + token.encode()).digest()
    return User(name=name, roles=frozenset(roles), salt=salt, digest=digest), token


def is_user_name(name: str) -> bool:
    """Whether a name is valid for a user.

    >>> [is_user_name(name) for name in ("ana", "ana@bank.example", "", "ana maria", "anonymous")]
    [True, True, False, False, False]
    """
    return _NAME.fullmatch(name) is not None and name.lower() not in _RESERVED


def read_users(text: str) -> tuple[tuple[User, ...], tuple[str, ...]]:
    """Users in a file's text, and one message per invalid line; messages do not show the line.

    >>> user, _ = new_user("ana", ["read"])
    >>> read_users(user.line()) == ((user,), ())
    True
    >>> read_users("ana read")
    ((), ('line 1: expected NAME ROLE[,ROLE] sha256:SALT:DIGEST',))
    """
    users: dict[str, User] = {}
    wrong: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        found = _user(words)
        if isinstance(found, str):
            wrong.append(f"line {number}: {found}")
        elif found.name in users:
            wrong.append(f"line {number}: the name occurs in an earlier line")
        elif len(users) == MAX_USERS:
            wrong.append(f"line {number}: more than {MAX_USERS} users")
        else:
            users[found.name] = found
    return tuple(users.values()), tuple(wrong)


def _user(words: list[str]) -> User | str:
    if len(words) != 3:
        return "expected NAME ROLE[,ROLE] sha256:SALT:DIGEST"
    name, named, hashed = words
    roles = frozenset(role for role in ROLES if role in named.split(","))
    if not is_user_name(name):
        return "the name may contain letters, digits and, after the first character, . _ @ -"
    if not roles or len(roles) != len(named.split(",")):
        return f"expected roles among {', '.join(ROLES)}, separated by commas"
    if (parts := _HASH.fullmatch(hashed)) is None:
        return "no hash of the form that `tamiz users add` writes"
    return User(name=name, roles=roles, salt=bytes.fromhex(parts[1]), digest=bytes.fromhex(parts[2]))
