"""Escaping of what Python itself writes to standard error.

Python prints uncaught exceptions of threads and finalizers, warnings, and messages that libraries log before logging is
configured. Their texts may contain untrusted input and URLs with passwords.
"""

import logging
import sys
import threading
import traceback
import warnings
from types import TracebackType
from typing import Any, TextIO

from schemas.security.sanitizer import indent_lines, log_line, without_credentials


class TextLines(logging.Formatter):
    """One line per log record, with the traceback indented below it."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (logging's own name)
        """Format the record's line."""
        return log_line(without_credentials(super().formatMessage(record)))

    def formatException(self, ei: Any) -> str:  # noqa: N802
        """Format the traceback."""
        return "  " + indent_lines(without_credentials(super().formatException(ei)))

    def formatStack(self, stack_info: str) -> str:  # noqa: N802
        """Format the stack of `stack_info`."""
        return "  " + indent_lines(without_credentials(super().formatStack(stack_info)))


def guard_standard_error() -> None:
    """Install hooks in this process: Python's own output to standard error becomes printable, without credentials."""
    sys.excepthook = _write_traceback
    threading.excepthook = _write_threads_traceback
    sys.unraisablehook = _write_unraisable
    warnings.showwarning = _write_warning
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(TextLines())


def write_error(text: str) -> None:
    """Write text of one or more lines to standard error; lines after the first are indented."""
    print(indent_lines(without_credentials(text.rstrip())), file=sys.stderr)


def _write_traceback(
    kind: type[BaseException], error: BaseException | None, trace: TracebackType | None, where: str = ""
) -> None:
    write_error(where + "".join(traceback.format_exception(kind, error, trace)))


def _write_threads_traceback(args: threading.ExceptHookArgs) -> None:
    if args.exc_type is not SystemExit:
        name = args.thread.name if args.thread is not None else "a thread"
        _write_traceback(args.exc_type, args.exc_value, args.exc_traceback, f"Exception in {name}: ")


def _write_unraisable(args: "sys.UnraisableHookArgs") -> None:
    where = f"{args.err_msg or 'Exception ignored in'}: {args.object!r}: "
    _write_traceback(args.exc_type, args.exc_value, args.exc_traceback, where)


def _write_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    write_error(warnings.formatwarning(message, category, filename, lineno, line))
