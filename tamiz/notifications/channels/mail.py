"""Sends notifications by mail, through an SMTP server."""

import contextlib
import logging
import smtplib
import ssl
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime

from monitoring.alerting.notification import Notification
from schemas.configuration.settings import Settings
from schemas.records import Severity
from schemas.security.sanitizer import mail_header
from tamiz.notifications.channels.channel import (
    TIMEOUT_S,
    Channel,
    PermanentDeliveryError,
    ReportLoader,
    RetryableDeliveryError,
    reason,
)

log = logging.getLogger("tamiz.notifier")


class MailChannel:
    """Sends each notification as a mail with the report of the model version attached."""

    name = "mail"
    closes_alerts = False

    def __init__(self, settings: Settings, load_report: ReportLoader) -> None:
        self.min_severity: Severity = settings.mail_min_severity
        self.where = f"{settings.smtp_host}:{settings.smtp_port}"
        self._settings, self._load_report = settings, load_report

    def send(self, notice: Notification) -> None:
        """Send through the SMTP server. Raises RetryableDeliveryError or PermanentDeliveryError."""
        mail = message(notice, self._settings.mail_from or "", self._settings.mail_to or "", self._load_report(notice))
        try:
            server = self._connected()
            try:
                if refused := server.send_message(mail):
                    log.error("%s refuses %d of the addresses in mail_to", self.where, len(refused))
            finally:
                with contextlib.suppress(smtplib.SMTPException, OSError):  # the mail is already accepted or refused
                    server.quit()
                server.close()
        except smtplib.SMTPRecipientsRefused as error:
            raise _status_error(min(code for code, _ in error.recipients.values())) from None
        except smtplib.SMTPResponseException as error:
            raise _status_error(error.smtp_code) from None
        except smtplib.SMTPServerDisconnected:
            raise RetryableDeliveryError("closed the connection") from None
        except smtplib.SMTPException as error:  # the server lacks STARTTLS or login
            raise PermanentDeliveryError(f"does not support smtp_security or login ({type(error).__name__})") from None
        except OSError as error:
            raise RetryableDeliveryError(f"is unreachable: {reason(error)}") from None
        except ValueError:  # smtplib encodes names and logins in ASCII
            raise PermanentDeliveryError("has a host name or a login that is not ASCII") from None

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
    """The mail of a notification.

    to: addresses, separated by commas. report: the PDF to attach.
    """
    mail = EmailMessage()
    mail["Subject"] = mail_header(f"[{notice.severity}] {notice.title}")
    mail["From"], mail["To"] = sender, to
    mail["Date"] = format_datetime(datetime.now(UTC))
    # Derived from the record only: mail clients recognise a retried mail as the same one.
    mail["Message-ID"] = f"<{notice.id}.{notice.happened_at_ms}@{sender.rpartition('@')[2]}>"
    mail["Auto-Submitted"] = "auto-generated"
    at = _time(notice.happened_at_ms)
    about = [notice.text, "", f"Severity: {notice.severity}", f"About: {notice.alias}", f"At: {at}"]
    if notice.model_version is not None and report is None:
        about.append(f"Version {notice.model_version} has no report to attach; `tamiz report` writes one.")
    mail.set_content("\n".join(about) + "\n")
    if report is not None:
        name = mail_header(f"{notice.model}-v{notice.model_version}.pdf")
        mail.add_attachment(report, maintype="application", subtype="pdf", filename=name)
    return mail


def channel(settings: Settings, load_report: ReportLoader) -> Channel | None:
    """The channel; None if `smtp_host` is not set."""
    return MailChannel(settings, load_report) if settings.smtp_host else None


def _time(ms: int) -> str:
    try:
        return f"{datetime.fromtimestamp(ms // 1000, UTC):%Y-%m-%d %H:%M} UTC"
    except (ValueError, OverflowError, OSError):  # a record may hold any number
        return f"{ms} ms"


def _status_error(code: int) -> RetryableDeliveryError | PermanentDeliveryError:
    return (
        PermanentDeliveryError(f"responded with {code}")
        if code >= 500
        else RetryableDeliveryError(f"responded with {code}")
    )
