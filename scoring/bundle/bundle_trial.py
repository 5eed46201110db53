"""Trial load of a bundle in a child process, so that a crash, a hang or excessive memory does not affect this process.

XGBoost's parser trusts its input: a few changed bytes can crash the process. Trees that a child has loaded and checked
are recorded by their SHA-256, in this process and, if a folder is given, on disk; they need no second trial. Digests,
manifest and golden vectors are checked at every load.
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

LOAD_TIMEOUT_S = 120
MAX_CPU_S = 60
SECRET_PREFIXES = ("TAMIZ_", "MLFLOW_", "AWS_")  # of environment variables that the child does not need
CHILD = (
    "import sys; sys.path[:] = sys.argv[3:]; from schemas import extras; "
    "extras.skip_unused_libraries(*extras.UNUSED_BY_WORKERS); "
    "from scoring.bundle.trial_process import main; main(*sys.argv[1:3])"
)

_passed: set[str] = set()  # SHA-256 of trees that this process has created or a child process has loaded
_one_at_a_time = threading.Lock()  # a child needs as much memory as this process


def mark_loadable(sha256: str, folder: Path | None = None) -> None:
    """Record that trees can be loaded: this process created them, or a child process has loaded them."""
    _passed.add(sha256)
    if folder is not None:
        with contextlib.suppress(OSError):  # disk full: the trial is repeated after the next start
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            _mark(folder, sha256).touch(mode=0o600)


def try_trees(bundle: Path, sha256: str, passed: Path | None = None) -> None:
    """Load a bundle in a child process, unless its trees have passed before.

    bundle: the folder. sha256: of its trees. passed: folder that records trees that passed.
    Raises ModelIncompatibleError if the child reports an error, crashes, exceeds its time limit or cannot be started.
    """
    with _one_at_a_time:
        if sha256 in _passed or (passed is not None and _mark(passed, sha256).is_file()):
            return
        _run(bundle, sha256)
        mark_loadable(sha256, passed)


def _run(bundle: Path, sha256: str) -> None:
    try:
        done = subprocess.run(
            [sys.executable, "-c", CHILD, str(bundle.resolve()), sha256, *(p for p in sys.path if p)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=LOAD_TIMEOUT_S,
            cwd=os.sep,
            env={name: value for name, value in os.environ.items() if not name.startswith(SECRET_PREFIXES)},
        )
    except subprocess.TimeoutExpired:
        raise ModelIncompatibleError(
            f"{bundle}: loading it in a child process took longer than {LOAD_TIMEOUT_S} s; train the model again"
        ) from None
    except OSError as error:
        raise ModelIncompatibleError(f"{bundle}: cannot start a child process to load it: {error.strerror}") from None
    if done.returncode < 0:
        with contextlib.suppress(ValueError):
            name = signal.Signals(-done.returncode).name
            raise ModelIncompatibleError(
                f"{bundle}: the child process that loaded it was terminated by {name}; train the model again"
            )
    if done.returncode != 0:
        why = done.stdout.decode(errors="replace").strip().splitlines()
        raise ModelIncompatibleError(
            (why[-1] if why else f"{bundle}: loading it ended a child process with exit code {done.returncode}")[:1000]
        )


def _mark(folder: Path, sha256: str) -> Path:
    return folder / f"{sha256}-xgboost-{xgb.__version__}"
