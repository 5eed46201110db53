"""A mail server, and the people it brings mail to."""

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


class Mail:
    """Sends each notification as a mail, the model version's report attached."""

    name = "mail"
    closes_alerts = False

    def __init__(self, settings: Settings, report_of: ReportLoader) -> None:
        self.min_severity: Severity = settings.mail_min_severity
        self.where = f"{settings.smtp_host}:{settings.smtp_port}"
        self._settings, self._report_of = settings, report_of

    def send(self, notice: Notification) -> None:
        """Hand it to the server. Raises RetryableDeliveryError or PermanentDeliveryError."""
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
            raise RetryableDeliveryError(f"cannot be reached: {reason(error)}") from None
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


def channel(settings: Settings, report_of: ReportLoader) -> Channel | None:
    """The channel, where `smtp_host` is set."""
    return Mail(settings, report_of) if settings.smtp_host else None


def _time(ms: int) -> str:
    try:
        return f"{datetime.fromtimestamp(ms // 1000, UTC):%Y-%m-%d %H:%M} UTC"
    except (ValueError, OverflowError, OSError):  # a record may hold any number
        return f"{ms} ms"


def _smtp(code: int) -> RetryableDeliveryError | PermanentDeliveryError:
    return PermanentDeliveryError(f"answered {code}") if code >= 500 else RetryableDeliveryError(f"answered {code}")
