"""Provenance of a model: git commit and version of the code."""

import subprocess
from importlib.metadata import version
from pathlib import Path


def git_commit(file: Path = Path(__file__)) -> str | None:
    """The commit that a source file is at, with ``-dirty`` appended when the working tree has changes.

    None when git does not track the file: an installed package may lie inside another repository.
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
    except (OSError, subprocess.SubprocessError):  # no git, no repository, or a timeout
        return None
    return found.stdout.strip()
