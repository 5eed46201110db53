"""Compiled code that an image brings with it, in the folder `compiled` next to the packages.

Numba writes to its cache, so it does not use one that is read-only. The image's is copied to the state folder once. It
is compiled for the generic processor of the architecture: Numba would not use code for another processor than its own.
"""

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

import schemas
from schemas.files.private_files import private_folder

BUILT = Path(schemas.__file__).parent.parent / "compiled"
DIGEST = "digest"  # file that names the state of the folder
PROCESSOR = {"NUMBA_CPU_NAME": "generic"}


def use_compiled_code(state_dir: Path, built: Path = BUILT) -> None:
    """Have Numba use the image's compiled code. Call it before Numba is imported; does nothing without such a folder.

    A variable of Numba that is set already has precedence. Without room on the disk Numba compiles again.
    """
    if not (built / DIGEST).is_file() or "NUMBA_CACHE_DIR" in os.environ:
        return
    kept = state_dir.resolve() / "numba"
    folder = kept / (built / DIGEST).read_text()
    with suppress(OSError):
        if not folder.is_dir():
            _copy(built, folder)
        os.environ["NUMBA_CACHE_DIR"] = str(folder)
        for name, value in PROCESSOR.items():
            os.environ.setdefault(name, value)


def _copy(built: Path, folder: Path) -> None:
    """Copy a folder in one step, as other processes see it, and remove those of earlier images."""
    private_folder(folder.parent)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="copy-") as scratch:
        copy = Path(shutil.copytree(built, Path(scratch) / folder.name, copy_function=shutil.copyfile))
        for path in (copy, *copy.iterdir()):
            if path.is_dir():
                path.chmod(0o700)  # copied from folders that are read-only
        with suppress(OSError):  # another process was first
            copy.rename(folder)
    for other in folder.parent.iterdir():
        if other != folder and not other.name.startswith("copy-"):
            shutil.rmtree(other, ignore_errors=True)
