"""Delivers one notification to one channel, with retries and exponential backoff."""

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
    """Number of attempts and pauses in between: by default 31 s of pauses in all."""

    attempts: int = 6
    first_pause_s: float = 1.0  # doubled after each further attempt


DEFAULT_RETRIES = RetryPolicy()
NO_RETRY = RetryPolicy(attempts=1)


class Delivery(NamedTuple):
    """The result of a delivery."""

    channel: Channel
    problem: str | None  # None: delivered
    refused: bool = False  # a retry would not help


def deliver(
    channel: Channel, notice: Notification, retry_policy: RetryPolicy, stop: threading.Event
) -> Delivery | None:
    """Send a notification. Blocks. None if `stop` was set before the notification was delivered or given up."""
    problem, pause_s = "", retry_policy.first_pause_s
    for attempt in range(1, retry_policy.attempts + 1):
        try:
            channel.send(notice)
            return Delivery(channel, None)
        except PermanentDeliveryError as error:
            return Delivery(channel, str(error), refused=True)
        except RetryableDeliveryError as error:
            problem = str(error)
            log.info("%s (%s) %s; attempt %d", channel.name, channel.where, problem, attempt)
            if attempt < retry_policy.attempts and stop.wait(max(pause_s, error.retry_after_s)):
                return None
            pause_s *= 2
        except Exception as error:  # a bug that one notification triggers must not stop the others
            log.exception("%s (%s) failed to send %s", channel.name, channel.where, notice.id)
            return Delivery(channel, repr(error)[:MAX_PROBLEM_LENGTH], refused=True)
    return Delivery(channel, problem)
