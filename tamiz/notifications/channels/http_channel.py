"""Channels that take JSON over HTTP."""

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
RETRYABLE = frozenset({408, 425, 429})  # of 4xx; every 5xx is


class HttpRequest(NamedTuple):
    """What is sent to a receiver."""

    url: str
    body: bytes  # JSON
    headers: Mapping[str, str] = {}
    method: str = "POST"


class HttpChannel:
    """Sends each notification as one request or several, in order; all are repeated when one fails for now."""

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
        """Any 2xx is success; a redirect is not followed. Raises RetryableDeliveryError or PermanentDeliveryError."""
        for request in self._requests(notice):
            _send(request)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A body that is signed, or goes to a secret address, is for nobody else."""

    def redirect_request(self, *args: Any) -> None:
        return None


_opener = urllib.request.build_opener(_NoRedirects)


def _send(request: HttpRequest) -> None:
    headers = {"Content-Type": "application/json", "User-Agent": "tamiz", **request.headers}
    made = urllib.request.Request(request.url, request.body, headers, method=request.method)
    try:
        with _opener.open(made, timeout=TIMEOUT_S):
            return
    except urllib.error.HTTPError as error:
        with error:
            raise _answered(error.code, error.headers.get("Retry-After", "")) from None
    except urllib.error.URLError as error:
        raise RetryableDeliveryError(f"cannot be reached: {reason(error.reason)}") from None
    except (OSError, http.client.HTTPException) as error:
        raise RetryableDeliveryError(f"broke off: {reason(error)}") from None
    except ValueError:  # of encoding its name for DNS
        raise PermanentDeliveryError("has no address that can be used") from None


def _answered(code: int, retry_after: str) -> RetryableDeliveryError | PermanentDeliveryError:
    if code >= 500 or code in RETRYABLE:
        seconds = float(retry_after) if retry_after.isascii() and retry_after.isdigit() else 0.0
        return RetryableDeliveryError(f"answered {code}", min(seconds, MAX_RETRY_AFTER_S))
    return PermanentDeliveryError(f"answered {code}" + (", and redirects are not followed" if code < 400 else ""))
