"""Reconnects a running service to the broker: waits while the broker is unreachable, then starts a new session."""

import logging
import threading
from collections.abc import Callable

from kafka.errors import KafkaError

from schemas.errors import BrokerError

RECONNECT_DELAY_S = 5


def reconnect(
    session: Callable[[Callable[[], None]], None],
    stop: threading.Event,
    log: logging.Logger,
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Run sessions until `stop` is set. If the broker becomes unreachable, wait before the next session.

    session: connects, calls its argument once connected, and works until `stop` is set. ready: called once, when the
    first session is connected. Raises BrokerError if the first session cannot connect.
    """
    started = False

    def connected() -> None:
        nonlocal started
        if not started:
            ready()
        started = True

    while not stop.is_set():
        try:
            session(connected)
        except (BrokerError, KafkaError) as error:
            if not started:
                raise BrokerError(str(error)) from None
            log.warning("%s; retry in %d s", error, RECONNECT_DELAY_S)
            stop.wait(RECONNECT_DELAY_S)
