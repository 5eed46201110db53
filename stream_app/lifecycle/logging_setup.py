"""Logging of the long-running programs: text lines, or one JSON object per line (`log_format`).

Messages contain untrusted text: ids, values, reasons. A log record is always one printable line, and traceback lines
are indented, so that no text can forge a record or control a terminal.
"""

import logging
import logging.config
from datetime import UTC, datetime
from typing import Any

import msgspec

from schemas.configuration.settings import Settings
from schemas.security.sanitizer import json_line, log_line, mask_values
from schemas.security.standard_error import TextLines
from stream_app.lifecycle.log_rate_limit import RateLimitedHandler

LINE = "%(asctime)s %(levelname)s %(name)s: %(message)s"
STANDARD_FIELDS = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class JsonLines(logging.Formatter):
    """One JSON object per record: `time` (ISO), `level`, `logger`, `message`, `extra` fields, `exception`, `stack`."""

    def format(self, record: logging.LogRecord) -> str:
        """Format the record as one line."""
        fields: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        # Libraries put any object into `extra`; those that JSON cannot encode are written as text.
        fields |= {name: value for name, value in vars(record).items() if name not in STANDARD_FIELDS}
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            fields["stack"] = self.formatStack(record.stack_info)
        return json_line(_encode(fields))


def _encode(fields: dict[str, Any]) -> str:
    try:
        return msgspec.json.encode(mask_values(msgspec.to_builtins(fields, enc_hook=repr))).decode()
    except (UnicodeEncodeError, TypeError, ValueError, RecursionError):  # e.g. a lone surrogate, or a non-string key
        plain = mask_values({str(name): v if isinstance(v, str) else str(v) for name, v in fields.items()})
        return msgspec.json.encode({log_line(name): log_line(v) for name, v in plain.items()}).decode()


def configuration(settings: Settings) -> dict[str, Any]:
    """Configuration for `logging.config.dictConfig`: to standard error, with `log_level` and `log_format`."""
    formatters: dict[str, Any] = {"text": {"()": TextLines, "fmt": LINE}, "json": {"()": JsonLines}}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": formatters,
        "handlers": {"stderr": {"()": RateLimitedHandler, "formatter": settings.log_format}},
        "root": {"level": settings.log_level, "handlers": ["stderr"]},
        # kafka-python logs every connection at INFO.
        "loggers": {"kafka": {"level": "WARNING"}},
    }


def start_logging(settings: Settings) -> None:
    """Configure logging for this process."""
    logging.config.dictConfig(configuration(settings))
