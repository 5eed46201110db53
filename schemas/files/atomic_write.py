"""Files that are there whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from schemas.files.private_files import private_file


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A file to write beside this one, which takes its place at the end; nothing is left of it after an error.

    Only its owner may read it.
    """
    scratch = path.with_name(path.name + ".part")
    private_file(scratch)
    try:
        yield scratch
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)
