"""How every long-running program of ours writes its log: lines for people, or one JSON object a line for machines.

Messages hold what others wrote: ids, values, reasons. Whatever they hold, a record is one printable line, and the lines
of its traceback are indented, so that no text can pass for a record or act on a terminal.
"""

import logging
import logging.config
from datetime import UTC, datetime
from typing import Any

import msgspec

from schemas.configuration.settings import Settings
from schemas.security.sanitizer import json_line, log_line, mask_values
from schemas.security.standard_error import TextLines

LINE = "%(asctime)s %(levelname)s %(name)s: %(message)s"
ORDINARY = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class JsonLines(logging.Formatter):
    """A JSON object a record: `time` (ISO), `level`, `logger`, `message`, what `extra` held, `exception`, `stack`."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line."""
        shown: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        # Libraries put anything into `extra`: what JSON has no word for is shown as text.
        shown |= {name: value for name, value in vars(record).items() if name not in ORDINARY}
        if record.exc_info:
            shown["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            shown["stack"] = self.formatStack(record.stack_info)
        return json_line(_encoded(shown))


def _encoded(shown: dict[str, Any]) -> str:
    try:
        return msgspec.json.encode(mask_values(msgspec.to_builtins(shown, enc_hook=repr))).decode()
    except (UnicodeEncodeError, TypeError, ValueError, RecursionError):  # a lone surrogate; a key that is no text
        plain = mask_values({str(name): v if isinstance(v, str) else str(v) for name, v in shown.items()})
        return msgspec.json.encode({log_line(name): log_line(v) for name, v in plain.items()}).decode()


def configuration(settings: Settings) -> dict[str, Any]:
    """For `logging.config.dictConfig`: to standard error, as `log_level` and `log_format` say."""
    formatters: dict[str, Any] = {"text": {"()": TextLines, "fmt": LINE}, "json": {"()": JsonLines}}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": formatters,
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": settings.log_format}},
        "root": {"level": settings.log_level, "handlers": ["stderr"]},
        # It tells of every connection.
        "loggers": {"kafka": {"level": "WARNING"}},
    }


def start_logging(settings: Settings) -> None:
    """Write this program's log so, from now on."""
    logging.config.dictConfig(configuration(settings))
