"""The interface of a channel: name, minimum severity, `send`, and its two errors."""

from collections.abc import Callable
from typing import Protocol

from monitoring.alerting.notification import Notification
from schemas.configuration.settings import Settings
from schemas.records import Severity

TIMEOUT_S = 10.0  # of a connection, a request or a response

ReportLoader = Callable[[Notification], bytes | None]  # PDF report of the model version; None if it has none


class RetryableDeliveryError(Exception):
    """The notification was not accepted; a retry may succeed.

    The text is logged. It contains no URL, body or password.
    """

    def __init__(self, problem: str, retry_after_s: float = 0.0) -> None:
        super().__init__(problem)
        self.retry_after_s = retry_after_s


class PermanentDeliveryError(Exception):
    """The notification was refused; a retry would not help. The text is logged, as above."""


class Channel(Protocol):
    """A way to reach people."""

    name: str
    min_severity: Severity
    closes_alerts: bool  # it keeps alerts open until they are closed, so it gets every resolution
    where: str  # the address, without secrets, for logs

    def send(self, notice: Notification) -> None:
        """Return when the notification is accepted. Raises RetryableDeliveryError or PermanentDeliveryError."""


ChannelFactory = Callable[[Settings, ReportLoader], Channel | None]  # None if the channel is not configured


def reason(error: object) -> str:
    """Why a connection failed. Only the text of an OSError: the texts of protocol errors may quote what was sent."""
    text = error.strerror if isinstance(error, OSError) else None
    return text or type(error).__name__
