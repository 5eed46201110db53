"""Who is told: a Slack-compatible webhook, our own signed one, and a mail server.

A receiver's `send` returns once the other side has taken the notification, and raises `Away` when that may go better
later, `Refused` when it will not. Neither text ever holds what an address, a body or a password holds: they are logged.
"""

import contextlib
import http.client
import logging
import smtplib
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime
from functools import partial
from typing import Any, Protocol
from urllib.parse import urlsplit

from monitoring.alerting import notification_formats
from monitoring.alerting.notification_formats import Notification
from schemas.configuration.settings import Settings
from schemas.records import Severity
from schemas.security.sanitizer import mail_header

log = logging.getLogger("tamiz.notifier")

TIMEOUT_S = 10.0  # of one step of a conversation
MAX_RETRY_AFTER_S = 60.0
PASSING = frozenset({408, 425, 429})  # of 4xx, those that ask for another attempt

ReportLoader = Callable[[Notification], bytes | None]  # the PDF of the model version it is about, where there is one


class RetryableDeliveryError(Exception):
    """The receiver did not take it; it may yet."""

    def __init__(self, problem: str, retry_after_s: float = 0.0) -> None:
        super().__init__(problem)
        self.retry_after_s = retry_after_s


class PermanentDeliveryError(Exception):
    """The receiver will not take it, however often it is asked."""


class Channel(Protocol):
    """One of those that are told."""

    name: str
    min_severity: Severity
    where: str  # for people

    def send(self, notice: Notification) -> None:
        """Tell it. Raises Away or Refused."""


class Webhook:
    """Takes JSON over HTTP."""

    def __init__(
        self,
        name: str,
        min_severity: Severity,
        url: str,
        body: Callable[[Notification], bytes],
        headers: Callable[[Notification, bytes], Mapping[str, str]] = lambda notice, body: {},
    ) -> None:
        self.name, self.min_severity, self.where = name, min_severity, urlsplit(url).netloc
        self._url, self._body, self._headers = url, body, headers

    def send(self, notice: Notification) -> None:
        """POST it; any 2xx is taken for an answer, a redirect is not followed. Raises Away or Refused."""
        body = self._body(notice)
        headers = {"Content-Type": "application/json", "User-Agent": "tamiz", **self._headers(notice, body)}
        request = urllib.request.Request(self._url, body, headers, method="POST")
        try:
            with _opener.open(request, timeout=TIMEOUT_S):
                return
        except urllib.error.HTTPError as error:
            with error:
                raise _answered(error.code, error.headers.get("Retry-After", "")) from None
        except urllib.error.URLError as error:
            raise RetryableDeliveryError(f"cannot be reached: {_reason(error.reason)}") from None
        except (OSError, http.client.HTTPException) as error:
            raise RetryableDeliveryError(f"broke off: {_reason(error)}") from None
        except ValueError:  # of encoding its name for DNS
            raise PermanentDeliveryError("has no address that can be used") from None


class Mail:
    """A mail server, and those it is to bring mail to."""

    name = "mail"

    def __init__(self, settings: Settings, report_of: ReportLoader) -> None:
        self.min_severity: Severity = settings.mail_min_severity
        self.where = f"{settings.smtp_host}:{settings.smtp_port}"
        self._settings, self._report_of = settings, report_of

    def send(self, notice: Notification) -> None:
        """Hand it to the server, with the report attached. Raises Away or Refused."""
        mail = message(notice, self._settings.mail_from or "", self._settings.mail_to or "", self._report_of(notice))
        try:
            server = self._connected()
            try:
                if refused := server.send_message(mail):
                    log.error("%s refuses %d of the addresses in mail_to", self.where, len(refused))
            finally:
                with contextlib.suppress(smtplib.SMTPException, OSError):  # what it has taken it has taken
                    server.quit()
                server.close()
        except smtplib.SMTPRecipientsRefused as error:
            raise _smtp(min(code for code, _ in error.recipients.values())) from None
        except smtplib.SMTPResponseException as error:
            raise _smtp(error.smtp_code) from None
        except smtplib.SMTPServerDisconnected:
            raise RetryableDeliveryError("broke off") from None
        except smtplib.SMTPException as error:  # it cannot do what the settings ask for, STARTTLS or a login
            raise PermanentDeliveryError(f"cannot do what is asked of it ({type(error).__name__})") from None
        except OSError as error:
            raise RetryableDeliveryError(f"cannot be reached: {_reason(error)}") from None
        except ValueError:  # smtplib speaks ASCII, in lines
            raise PermanentDeliveryError("has a name, or asks for a login, that cannot be written in ASCII") from None

    def _connected(self) -> smtplib.SMTP:
        s = self._settings
        host, tls = s.smtp_host or "", ssl.create_default_context()
        if s.smtp_security == "tls":
            server: smtplib.SMTP = smtplib.SMTP_SSL(host, s.smtp_port, timeout=TIMEOUT_S, context=tls)
        else:
            server = smtplib.SMTP(host, s.smtp_port, timeout=TIMEOUT_S)
        try:
            if s.smtp_security == "starttls":
                server.starttls(context=tls)
            if s.smtp_username and s.smtp_password:
                server.login(s.smtp_username, s.smtp_password.reveal())
        except BaseException:
            server.close()
            raise
        return server


def message(notice: Notification, sender: str, to: str, report: bytes | None) -> EmailMessage:
    """The mail that tells a notification.

    to: addresses, separated by commas. report: the PDF to attach.
    """
    mail = EmailMessage()
    mail["Subject"] = mail_header(f"[{notice.severity}] {notice.title}")
    mail["From"], mail["To"] = sender, to
    mail["Date"] = format_datetime(datetime.now(UTC))
    # Of the record alone: a mail that is sent again, its first answer having been lost, can be told from a second one.
    mail["Message-ID"] = f"<{notice.id}.{notice.happened_at_ms}@{sender.rpartition('@')[2]}>"
    mail["Auto-Submitted"] = "auto-generated"
    at = _time(notice.happened_at_ms)
    about = [notice.text, "", f"Severity: {notice.severity}", f"About: {notice.alias}", f"At: {at}"]
    if notice.model_version is not None and report is None:
        about.append(f"There is no report of version {notice.model_version} to attach; `tamiz report` writes one.")
    mail.set_content("\n".join(about) + "\n")
    if report is not None:
        name = mail_header(f"{notice.model}-v{notice.model_version}.pdf")
        mail.add_attachment(report, maintype="application", subtype="pdf", filename=name)
    return mail


def channels(settings: Settings, report_of: ReportLoader) -> list[Channel]:
    """Those that are set."""
    found: list[Channel] = []
    if settings.slack_webhook:
        found.append(
            Webhook("slack", settings.slack_min_severity, settings.slack_webhook.reveal(), notification_formats.slack)
        )
    if settings.smtp_host:
        found.append(Mail(settings, report_of))
    if settings.webhook_url and settings.webhook_secret:
        body = {"tamiz": notification_formats.tamiz, "opsgenie": notification_formats.opsgenie}[settings.webhook_format]
        signed = partial(_signed, settings.webhook_secret.reveal())
        found.append(Webhook("webhook", settings.webhook_min_severity, settings.webhook_url.reveal(), body, signed))
    return found


def _time(ms: int) -> str:
    try:
        return f"{datetime.fromtimestamp(ms // 1000, UTC):%Y-%m-%d %H:%M} UTC"
    except (ValueError, OverflowError, OSError):  # a record may hold any number
        return f"{ms} ms"


def _signed(secret: str, notice: Notification, body: bytes) -> dict[str, str]:
    return {
        "Tamiz-Signature": notification_formats.signature(body, secret, int(time.time())),
        "Tamiz-Delivery": notice.id,
    }


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A body that is signed, or goes to a secret address, is for nobody else."""

    def redirect_request(self, *args: Any) -> None:
        return None


_opener = urllib.request.build_opener(_NoRedirects)


def _answered(code: int, retry_after: str) -> RetryableDeliveryError | PermanentDeliveryError:
    if code >= 500 or code in PASSING:
        seconds = float(retry_after) if retry_after.isascii() and retry_after.isdigit() else 0.0
        return RetryableDeliveryError(f"answered {code}", min(seconds, MAX_RETRY_AFTER_S))
    return PermanentDeliveryError(f"answered {code}" + (", and redirects are not followed" if code < 400 else ""))


def _smtp(code: int) -> RetryableDeliveryError | PermanentDeliveryError:
    return PermanentDeliveryError(f"answered {code}") if code >= 500 else RetryableDeliveryError(f"answered {code}")


def _reason(error: object) -> str:
    # Texts of errors about the protocol quote what was sent or received; those of the system do not.
    text = error.strerror if isinstance(error, OSError) else None
    return text or type(error).__name__
