"""What every channel is: a name, what it wants, and `send`."""

from collections.abc import Callable
from typing import Protocol

from monitoring.alerting.notification import Notification
from schemas.configuration.settings import Settings
from schemas.records import Severity

TIMEOUT_S = 10.0  # of one step of a conversation

ReportLoader = Callable[[Notification], bytes | None]  # the PDF of the model version it is about, where there is one


class RetryableDeliveryError(Exception):
    """The receiver did not take the notification and may take it later.

    The text is logged: it never holds what an address, a body or a password holds.
    """

    def __init__(self, problem: str, retry_after_s: float = 0.0) -> None:
        super().__init__(problem)
        self.retry_after_s = retry_after_s


class PermanentDeliveryError(Exception):
    """The receiver will not take the notification, however often it is sent. The text is logged, as above."""


class Channel(Protocol):
    """One way to people."""

    name: str
    min_severity: Severity
    closes_alerts: bool  # whether it keeps alerts open until they are closed: then it gets every resolution
    where: str  # the receiver's address for people, without secrets

    def send(self, notice: Notification) -> None:
        """Return once the receiver has taken it. Raises RetryableDeliveryError or PermanentDeliveryError."""


ChannelFactory = Callable[[Settings, ReportLoader], Channel | None]  # None where the channel is not set


def reason(error: object) -> str:
    """Why a connection failed. Texts of errors about the protocol quote what was sent; those of the system do not."""
    text = error.strerror if isinstance(error, OSError) else None
    return text or type(error).__name__
