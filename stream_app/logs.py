"""How every long-running program of ours writes its log: lines for people, or one JSON object a line for machines.

Messages hold what others wrote: ids, values, reasons. Whatever they hold, a record is one printable line, and the lines
of its traceback are indented, so that no text can pass for a record or act on a terminal.
"""

import logging
import logging.config
from datetime import UTC, datetime
from typing import Any

import msgspec

from schemas.sanitize import indented, json_line, log_line, without_credentials
from schemas.settings import Settings

LINE = "%(asctime)s %(levelname)s %(name)s: %(message)s"
ORDINARY = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class TextLines(logging.Formatter):
    """A line a record, and its traceback indented below."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (logging's own name)
        """The record's line."""
        return log_line(without_credentials(super().formatMessage(record)))

    def formatException(self, ei: Any) -> str:  # noqa: N802
        """The traceback."""
        return "  " + indented(without_credentials(super().formatException(ei)))

    def formatStack(self, stack_info: str) -> str:  # noqa: N802
        """The stack that `stack_info` asks for."""
        return "  " + indented(super().formatStack(stack_info))


class JsonLines(logging.Formatter):
    """One JSON object a record: `time` (ISO 8601), `level`, `logger`, `message`, what `extra` held, `exception`."""

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
        return json_line(without_credentials(_encoded(shown)))


def _encoded(shown: dict[str, Any]) -> str:
    try:
        return msgspec.json.encode(shown, enc_hook=repr).decode()
    except (UnicodeEncodeError, TypeError, ValueError, RecursionError):  # a lone surrogate; a key that is no text
        plain = {log_line(name): log_line(v if isinstance(v, str) else str(v)) for name, v in shown.items()}
        return msgspec.json.encode(plain).decode()


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
