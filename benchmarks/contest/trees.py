"""Trees of Tamiz to measure: this one, and those of other commits, each with its own environment."""

import subprocess
import sys
from pathlib import Path

import msgspec

ROOT = Path(__file__).parent.parent.parent
PEERS_PYTHON = ROOT / ".venv-bench" / "bin" / "python"
COMMITS = ROOT / "build" / "commits"
ENVIRONMENTS = ((".venv", "requirements.lock"), (".venv-bench", "requirements-bench.lock"))


class Tree(msgspec.Struct, frozen=True, kw_only=True):
    """Source files and interpreters."""

    name: str
    root: Path
    python: Path
    peers_python: Path


THIS_TREE = Tree(name="this", root=ROOT, python=Path(sys.executable), peers_python=PEERS_PYTHON)


def tree_of(commit: str) -> Tree:
    """The files of a commit, in `build/commits`, with an environment for each of its lock files.

    Where a lock file is the same as here, so is the environment.
    """
    full = _git("rev-parse", "--verify", f"{commit}^{{commit}}").decode().strip()
    root = COMMITS / full[:12]
    if not root.exists():
        partial = root.with_suffix(".part")
        partial.mkdir(parents=True, exist_ok=True)
        subprocess.run(["tar", "-x", "-C", str(partial)], input=_git("archive", full), check=True)
        partial.rename(root)
    pythons = [_environment(root, *names) for names in ENVIRONMENTS]
    return Tree(name=full[:12], root=root, python=pythons[0], peers_python=pythons[1])


def _environment(root: Path, folder: str, lock: str) -> Path:
    if (root / lock).read_bytes() == (ROOT / lock).read_bytes():
        return ROOT / folder / "bin" / "python"
    python = root / folder / "bin" / "python"
    if not python.exists():
        uv = ROOT / ".venv" / "bin" / "uv"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(root / folder)], check=True)
        sync = [uv, "pip", "sync", "--quiet", "--python", python, "--require-hashes", root / lock]
        subprocess.run(sync, check=True)
    return python


def _git(*words: str) -> bytes:
    return subprocess.run(["git", *words], cwd=ROOT, check=True, capture_output=True).stdout
