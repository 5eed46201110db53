"""Channels that send JSON over HTTP."""

import http.client
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from monitoring.alerting.notification import Notification
from schemas.records import Severity
from tamiz.notifications.channels.channel import TIMEOUT_S, PermanentDeliveryError, RetryableDeliveryError, reason

MAX_RETRY_AFTER_S = 60.0
RETRYABLE = frozenset({408, 425, 429})  # in addition to every 5xx


class HttpRequest(NamedTuple):
    """One request of a channel."""

    url: str
    body: bytes  # JSON
    headers: Mapping[str, str] = {}
    method: str = "POST"


class HttpChannel:
    """Sends each notification as one or more requests, in order. A retry repeats all of them."""

    def __init__(
        self,
        name: str,
        min_severity: Severity,
        url: str,
        requests: Callable[[Notification], Sequence[HttpRequest]],
        *,
        closes_alerts: bool = False,
    ) -> None:
        self.name, self.min_severity, self.where = name, min_severity, urlsplit(url).netloc
        self.closes_alerts = closes_alerts
        self._requests = requests

    def send(self, notice: Notification) -> None:
        """Send; any 2xx is success, redirects fail. Raises RetryableDeliveryError or PermanentDeliveryError."""
        for request in self._requests(notice):
            _send(request)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Refuses redirects: a notification goes to the configured address only."""

    def redirect_request(self, *args: Any) -> None:
        return None


_opener = urllib.request.build_opener(_NoRedirects)


def _send(request: HttpRequest) -> None:
    headers = {"Content-Type": "application/json", "User-Agent": "tamiz", **request.headers}
    prepared = urllib.request.Request(request.url, request.body, headers, method=request.method)
    try:
        with _opener.open(prepared, timeout=TIMEOUT_S):
            return
    except urllib.error.HTTPError as error:
        with error:
            raise _status_error(error.code, error.headers.get("Retry-After", "")) from None
    except urllib.error.URLError as error:
        raise RetryableDeliveryError(f"is unreachable: {reason(error.reason)}") from None
    except (OSError, http.client.HTTPException) as error:
        raise RetryableDeliveryError(f"closed the connection: {reason(error)}") from None
    except ValueError:  # the host name cannot be encoded for DNS
        raise PermanentDeliveryError("has an invalid address") from None


def _status_error(code: int, retry_after: str) -> RetryableDeliveryError | PermanentDeliveryError:
    if code >= 500 or code in RETRYABLE:
        seconds = float(retry_after) if retry_after.isascii() and retry_after.isdigit() else 0.0
        return RetryableDeliveryError(f"responded with {code}", min(seconds, MAX_RETRY_AFTER_S))
    return PermanentDeliveryError(f"responded with {code}" + ("; redirects are not followed" if code < 400 else ""))
