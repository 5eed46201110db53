"""Making plain kafka-python clients: knock first, and one readable line when nobody answers."""

import contextlib
import socket
from collections.abc import Iterator

from kafka.errors import KafkaError

from schemas.errors import BrokerError


@contextlib.contextmanager
def reaching(bootstrap: str, *, patience_s: float = 10) -> Iterator[None]:
    """Make a client inside. Raises BrokerError when no server answers within `patience_s` each."""
    try:
        _knock(bootstrap, patience_s)
        yield
    except (KafkaError, OSError, ValueError) as error:
        raise BrokerError(
            f"no Kafka answers at {bootstrap} ({error}); start one with `tamiz broker`, or set TAMIZ_BOOTSTRAP_SERVERS"
        ) from None


def _knock(bootstrap: str, patience_s: float) -> None:
    """Raise OSError when none of the servers takes a connection: kafka-python would try on, and leave sockets open."""
    refused: OSError | None = None
    for server in bootstrap.split(","):
        host, _, port = server.strip().rpartition(":")
        try:
            with socket.create_connection((host.strip("[]"), int(port)), timeout=patience_s):
                return
        except OSError as error:
            refused = error
    if refused is not None:
        raise refused
