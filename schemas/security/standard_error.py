"""Standard error: what Python itself writes there, as safe as what we write.

Python prints an exception that nothing caught, in each thread and in a finalizer, a warning, and what libraries log
before a log is set up. Their texts hold what others wrote, and addresses with passwords.
"""

import logging
import sys
import threading
import traceback
import warnings
from types import TracebackType
from typing import Any, TextIO

from schemas.security.sanitizer import indented, log_line, without_credentials


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
        return "  " + indented(without_credentials(super().formatStack(stack_info)))


def guard_standard_error() -> None:
    """From now on, in all threads of this process, what Python writes there is printable and holds no credentials."""
    sys.excepthook = _write_traceback
    threading.excepthook = _write_threads_traceback
    sys.unraisablehook = _write_unraisable
    warnings.showwarning = _write_warning
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(TextLines())


def write_error(text: str) -> None:
    """Write a text of one or several lines; the others are indented below the first."""
    print(indented(without_credentials(text.rstrip())), file=sys.stderr)


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
