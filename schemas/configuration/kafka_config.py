"""Address and security settings of a Kafka cluster, as one value, so that no client is created without either."""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from schemas.errors import ConfigError

Protocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]


class Secret:
    """A secret text: masked in logs, `repr`, errors and tables; `reveal()` returns it.

    >>> password = Secret("hola")
    >>> f"{password} {password!r}", password.reveal()
    ('*** Secret(***)', 'hola')
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the secret in plain text."""
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
    """Security settings of a Kafka connection. Certificates and keys are paths of PEM files."""

    protocol: Protocol = "PLAINTEXT"
    mechanism: Mechanism | None = None
    username: str | None = None
    password: Secret | None = None
    cafile: str | None = None  # None: the system's certificate authorities
    certfile: str | None = None  # with `keyfile`: the client certificate, for mutual TLS
    keyfile: str | None = None


class ClusterAddress(str):
    """Bootstrap servers, `host:port[,host:port]`, with the security settings of the connection.

    >>> ClusterAddress("a:1,b:2", Access(protocol="SSL")).split(","), ClusterAddress("a:1", Access()).access.protocol
    (['a:1', 'b:2'], 'PLAINTEXT')
    """

    access: Access

    def __new__(cls, servers: str, access: Access) -> "ClusterAddress":
        """servers: comma-separated, in the form of `bootstrap.servers`."""
        made = super().__new__(cls, servers)
        made.access = access
        return made


def check_access(values: Mapping[str, Any]) -> None:
    """Raise ConfigError if Kafka's security settings contradict each other or name a file that does not exist."""
    protocol = values.get("security_protocol", "PLAINTEXT")
    sasl = [name for name in ("sasl_mechanism", "sasl_username", "sasl_password") if name in values]
    ssl = [name for name in ("ssl_cafile", "ssl_certfile", "ssl_keyfile") if name in values]
    if protocol.startswith("SASL") and len(sasl) < 3:
        raise ConfigError(f"security_protocol {protocol} needs sasl_mechanism, sasl_username and sasl_password")
    if sasl and not protocol.startswith("SASL"):
        raise ConfigError(f"{sasl[0]} is set, but security_protocol {protocol} does not use it; did you mean SASL_SSL?")
    if ssl and not protocol.endswith("SSL"):
        raise ConfigError(f"{ssl[0]} is set, but security_protocol {protocol} does not use it; did you mean SSL?")
    if ("ssl_certfile" in values) != ("ssl_keyfile" in values):
        raise ConfigError(f"{ssl[-1]} is set alone; ssl_certfile and ssl_keyfile go together: set both or neither")
    if missing := [f"{name} = {values[name]}" for name in ssl if not values[name].is_file()]:
        raise ConfigError(f"{missing[0]}: no such file; set the path of a PEM file")
