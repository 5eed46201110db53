"""How every long-running program of ours writes its log: lines for people, or one JSON object a line for machines."""

import logging
import logging.config
from datetime import UTC, datetime
from typing import Any

import msgspec

from schemas.settings import Settings

LINE = "%(asctime)s %(levelname)s %(name)s: %(message)s"
ORDINARY = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


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
        return msgspec.json.encode(shown, enc_hook=repr).decode()


def configuration(settings: Settings) -> dict[str, Any]:
    """For `logging.config.dictConfig`: to standard error, as `log_level` and `log_format` say."""
    formatters: dict[str, Any] = {"text": {"format": LINE}, "json": {"()": JsonLines}}
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
