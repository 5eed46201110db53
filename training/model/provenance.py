"""Where a model came from: the code's commit and version."""

import subprocess
from importlib.metadata import version
from pathlib import Path


def git_commit(file: Path = Path(__file__)) -> str | None:
    """The commit that a source file stands at, ``-dirty`` appended when the working tree differs from it.

    None when the file is not tracked by git: an installed package may lie in somebody else's repository.
    """
    if _git(file, "ls-files", "--error-unmatch", file.name) is None:
        return None
    return _git(file, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def tamiz_version() -> str:
    """The installed version of Tamiz."""
    return version("tamiz")


def _git(file: Path, *arguments: str) -> str | None:
    try:
        found = subprocess.run(
            ["git", "-C", str(file.parent), *arguments], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):  # no git here, no repository here, or a git that hangs
        return None
    return found.stdout.strip()
