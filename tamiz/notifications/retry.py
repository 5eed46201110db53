"""One notification to one receiver: tried again, at growing intervals, as long as that may help."""

import logging
import threading
from dataclasses import dataclass
from typing import NamedTuple

from monitoring.alerting.notification import Notification
from tamiz.notifications.channels.channel import Channel, PermanentDeliveryError, RetryableDeliveryError

log = logging.getLogger("tamiz.notifier")
MAX_PROBLEM_LENGTH = 200  # characters


@dataclass(frozen=True)
class RetryPolicy:
    """How long a receiver is waited for: with the defaults, half a minute besides what the attempts take."""

    attempts: int = 6
    first_pause_s: float = 1.0  # twice as long after each further attempt


DEFAULT_RETRIES = RetryPolicy()
NO_RETRY = RetryPolicy(attempts=1)


class Delivery(NamedTuple):
    """What became of it."""

    receiver: Channel
    problem: str | None  # None: it was told
    refused: bool = False


def deliver(receiver: Channel, notice: Notification, patience: RetryPolicy, stop: threading.Event) -> Delivery | None:
    """Tell a receiver. Blocking. None when `stop` was set before anything was settled."""
    problem, pause_s = "", patience.first_pause_s
    for attempt in range(1, patience.attempts + 1):
        try:
            receiver.send(notice)
            return Delivery(receiver, None)
        except PermanentDeliveryError as error:
            return Delivery(receiver, str(error), refused=True)
        except RetryableDeliveryError as error:
            problem = str(error)
            log.info("%s (%s) %s; attempt %d", receiver.name, receiver.where, problem, attempt)
            if attempt < patience.attempts and stop.wait(max(pause_s, error.retry_after_s)):
                return None
            pause_s *= 2
        except Exception as error:  # one notification that our own code cannot bear must stop no other
            log.exception("%s (%s) cannot be told of %s", receiver.name, receiver.where, notice.id)
            return Delivery(receiver, repr(error)[:MAX_PROBLEM_LENGTH], refused=True)
    return Delivery(receiver, problem)
