"""Making plain kafka-python clients: knock first, and one readable line when nobody answers."""

import contextlib
import socket
from collections.abc import Iterator

from kafka.errors import KafkaError

from schemas.errors import BrokerError


@contextlib.contextmanager
def reaching(bootstrap: str) -> Iterator[None]:
    """Make a client inside. Raises BrokerError when no server answers."""
    try:
        _knock(bootstrap)
        yield
    except (KafkaError, OSError, ValueError) as error:
        raise BrokerError(
            f"no Kafka answers at {bootstrap} ({error}); start one with `tamiz broker`, or set TAMIZ_BOOTSTRAP_SERVERS"
        ) from None


def _knock(bootstrap: str) -> None:
    """Raise OSError when none of the servers takes a connection: kafka-python would try on, and leave sockets open."""
    refused: OSError | None = None
    for server in bootstrap.split(","):
        host, _, port = server.strip().rpartition(":")
        try:
            with socket.create_connection((host.strip("[]"), int(port)), timeout=10):
                return
        except OSError as error:
            refused = error
    if refused is not None:
        raise refused
