"""Loads a bundle's trees for the first time in a child process, which may crash, hang or take memory in our place.

XGBoost's reader trusts its input: a few changed bytes can end the process that reads them. The trees that a child has
loaded, inspected and asked for scores are remembered by their SHA-256, in this process and, given a folder, on disk.
Only that one step is saved by it: digests, manifest and golden vectors are checked at every load.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import xgboost as xgb

from schemas.errors import ModelIncompatibleError

TIMEOUT_S = 120
MAX_CPU_S = 60
SECRET_PREFIXES = ("TAMIZ_", "MLFLOW_", "AWS_")  # of variables that the child has no need of
CHILD = "import sys; sys.path[:] = sys.argv[3:]; from scoring.bundle.trial_process import main; main(*sys.argv[1:3])"

_passed: set[str] = set()  # SHA-256 of trees that this process has made, or a child of it has loaded
_one_at_a_time = threading.Lock()  # a child takes as much memory as we do


def remember(sha256: str, folder: Path | None = None) -> None:
    """Take trees as tried: made by this process itself, or loaded by a child of it."""
    _passed.add(sha256)
    if folder is not None:
        with contextlib.suppress(OSError):  # a full disk: they are tried again after the next start
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            _mark(folder, sha256).touch(mode=0o600)


def try_trees(bundle: Path, sha256: str, passed: Path | None = None) -> None:
    """Have a child process load a bundle, unless its trees have passed before.

    bundle: the folder. sha256: of its trees. passed: folder in which passed trees are remembered.
    Raises ModelIncompatibleError, in one line, when the child refuses, dies, hangs or cannot be started.
    """
    with _one_at_a_time:
        if sha256 in _passed or (passed is not None and _mark(passed, sha256).is_file()):
            return
        _run(bundle, sha256)
        remember(sha256, passed)


def _run(bundle: Path, sha256: str) -> None:
    try:
        done = subprocess.run(
            [sys.executable, "-c", CHILD, str(bundle.resolve()), sha256, *(p for p in sys.path if p)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=TIMEOUT_S,
            cwd=os.sep,
            env={name: value for name, value in os.environ.items() if not name.startswith(SECRET_PREFIXES)},
        )
    except subprocess.TimeoutExpired:
        raise ModelIncompatibleError(
            f"{bundle}: loading it took a child process longer than {TIMEOUT_S} s; train the model again"
        ) from None
    except OSError as error:
        raise ModelIncompatibleError(
            f"{bundle}: no child process could be started to load it: {error.strerror}"
        ) from None
    if done.returncode < 0:
        with contextlib.suppress(ValueError):
            name = signal.Signals(-done.returncode).name
            raise ModelIncompatibleError(
                f"{bundle}: loading it ended a child process with {name}; train the model again"
            )
    if done.returncode != 0:
        why = done.stdout.decode(errors="replace").strip().splitlines()
        raise ModelIncompatibleError(
            (why[-1] if why else f"{bundle}: loading it ended a child process with exit code {done.returncode}")[:1000]
        )


def _mark(folder: Path, sha256: str) -> Path:
    return folder / f"{sha256}-xgboost-{xgb.__version__}"
