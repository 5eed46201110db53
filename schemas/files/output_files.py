"""Checks of an output path before the long work whose result it receives."""

import os
import tempfile
from pathlib import Path

from schemas.errors import ConfigError


def prepare_output(path: Path) -> None:
    """Create the folder of an output file, and check that the file can be written.

    Raises ConfigError, which names the path and the reason.
    """
    if path.is_dir():
        raise _unwritable(path, "it is a folder")
    if path.exists() and not path.is_file():  # a device or a pipe, such as /dev/stdout: nothing is written next to it
        if not os.access(path, os.W_OK):
            raise _unwritable(path, "permission denied")
        return
    _prepare(path.parent, path)


def prepare_output_folder(path: Path) -> None:
    """Create an output folder, and check that files can be written to it.

    Raises ConfigError, which names the path and the reason.
    """
    _prepare(path, path)


def _prepare(folder: Path, path: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except FileExistsError as error:
        raise _unwritable(path, f"{error.filename} is not a folder") from None
    except OSError as error:
        raise _unwritable(path, error.strerror or str(error)) from None


def _unwritable(path: Path, why: str) -> ConfigError:
    return ConfigError(f"--output {path}: cannot be written: {why}; name another path")
