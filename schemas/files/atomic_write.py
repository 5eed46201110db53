"""Atomic file writes: write to a temporary file, then rename."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from schemas.files.private_files import private_file


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Context manager: yields a temporary path in the same folder and renames it to `path` at the end.

    After an error, `path` is unchanged and the temporary file is removed. Only the owner may read the file.
    """
    scratch = path.with_name(path.name + ".part")
    private_file(scratch)
    try:
        yield scratch
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)
