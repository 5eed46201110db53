"""A Kafka cluster's address, and how to be let in: one value, so that no client can be made with half of it."""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from schemas.errors import ConfigError

Protocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]


class Secret:
    """A text that shows itself only when asked by name: not in logs, `repr`, errors or tables.

    >>> password = Secret("hola")
    >>> f"{password} {password!r}", password.reveal()
    ('*** Secret(***)', 'hola')
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself."""
        return self._text

    def __str__(self) -> str:
        return "***"

    def __repr__(self) -> str:
        return "Secret(***)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """How to be let in. Certificates and keys are paths of PEM files."""

    protocol: Protocol = "PLAINTEXT"
    mechanism: Mechanism | None = None
    username: str | None = None
    password: Secret | None = None
    cafile: str | None = None  # None: the machine's own authorities
    certfile: str | None = None  # with `keyfile`: who we are, to a cluster that asks (mTLS)
    keyfile: str | None = None


class ClusterAddress(str):
    """`host:port[,host:port]`, with the way in.

    >>> ClusterAddress("a:1,b:2", Access(protocol="SSL")).split(","), ClusterAddress("a:1", Access()).access.protocol
    (['a:1', 'b:2'], 'PLAINTEXT')
    """

    access: Access

    def __new__(cls, servers: str, access: Access) -> "ClusterAddress":
        """servers: as Kafka's clients write them."""
        made = super().__new__(cls, servers)
        made.access = access
        return made


def check_access(values: Mapping[str, Any]) -> None:
    """Raise ConfigError when settings of Kafka's security contradict each other or name a file that does not exist."""
    protocol = values.get("security_protocol", "PLAINTEXT")
    sasl = [name for name in ("sasl_mechanism", "sasl_username", "sasl_password") if name in values]
    ssl = [name for name in ("ssl_cafile", "ssl_certfile", "ssl_keyfile") if name in values]
    if protocol.startswith("SASL") and len(sasl) < 3:
        raise ConfigError(f"security_protocol {protocol} needs sasl_mechanism, sasl_username and sasl_password")
    if sasl and not protocol.startswith("SASL"):
        raise ConfigError(f"{sasl[0]} is set, and security_protocol {protocol} does not use it; did you mean SASL_SSL?")
    if ssl and not protocol.endswith("SSL"):
        raise ConfigError(f"{ssl[0]} is set, and security_protocol {protocol} does not use it; did you mean SSL?")
    if ("ssl_certfile" in values) != ("ssl_keyfile" in values):
        raise ConfigError(f"{ssl[-1]} is set alone; ssl_certfile and ssl_keyfile go together")
    if missing := [f"{name} = {values[name]}" for name in ssl if not values[name].is_file()]:
        raise ConfigError(f"{missing[0]}: there is no such file")
