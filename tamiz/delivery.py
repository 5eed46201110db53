"""One notification to one receiver: tried again, at growing intervals, as long as that may help."""

import logging
import threading
from dataclasses import dataclass
from typing import NamedTuple

from monitoring.notices import Notification
from tamiz.receivers import Away, Receiver, Refused

log = logging.getLogger("tamiz.notifier")
MAX_PROBLEM_LENGTH = 200  # characters


@dataclass(frozen=True)
class Patience:
    """How long a receiver is waited for: with the defaults, half a minute besides what the attempts take."""

    attempts: int = 6
    first_pause_s: float = 1.0  # twice as long after each further attempt


PATIENT = Patience()
ONCE = Patience(attempts=1)


class Delivery(NamedTuple):
    """What became of it."""

    receiver: Receiver
    problem: str | None  # None: it was told
    refused: bool = False


def deliver(receiver: Receiver, notice: Notification, patience: Patience, stop: threading.Event) -> Delivery | None:
    """Tell a receiver. Blocking. None when `stop` was set before anything was settled."""
    problem, pause_s = "", patience.first_pause_s
    for attempt in range(1, patience.attempts + 1):
        try:
            receiver.send(notice)
            return Delivery(receiver, None)
        except Refused as error:
            return Delivery(receiver, str(error), refused=True)
        except Away as error:
            problem = str(error)
            log.info("%s (%s) %s; attempt %d", receiver.name, receiver.where, problem, attempt)
            if attempt < patience.attempts and stop.wait(max(pause_s, error.retry_after_s)):
                return None
            pause_s *= 2
        except Exception as error:  # one notification that our own code cannot bear must stop no other
            log.exception("%s (%s) cannot be told of %s", receiver.name, receiver.where, notice.id)
            return Delivery(receiver, repr(error)[:MAX_PROBLEM_LENGTH], refused=True)
    return Delivery(receiver, problem)
