"""Permissions of files and folders that only the owner may read: registry, bundles, worker state, broker records.

`tamiz` sets its umask to `UMASK`, so that neither it nor its children create files that others can read.
`narrow_state` restricts files in the state folder that older versions or other programs created.
"""

import contextlib
import os
import stat
from pathlib import Path

UMASK = 0o077
_OF_OTHERS = stat.S_IRWXG | stat.S_IRWXO
# Created by Tamiz within the state folder. The state folder itself may be any folder, so its rights are not changed.
_OURS = (
    "mlflow.db",
    "mlflow.lock",
    "models",
    "artifacts",
    "faust",
    "profiles",
    "numba",
    "demo",
    "notifier",
    "rule-tests",
)


def is_private(path: Path) -> bool:
    """Whether group and others have no rights; true for a path that does not exist."""
    try:
        return not stat.S_IMODE(path.stat().st_mode) & _OF_OTHERS
    except FileNotFoundError:
        return True


def is_private_secret(path: Path) -> bool:
    """Whether only the owner may read a file, or its group if the platform mounts secrets that way.

    Kubernetes mounts a secret read-only, or owned by root and readable by the pod's group (`fsGroup`). `chmod` cannot
    change that, and the group is that of this process.
    """
    if is_private(path):
        return True
    found = path.stat()
    if stat.S_IMODE(found.st_mode) & (stat.S_IRWXO | stat.S_IWGRP | stat.S_IXGRP):
        return False
    is_read_only = bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    is_of_our_group = found.st_gid in {os.getegid(), *os.getgroups()}
    return is_of_our_group and (is_read_only or found.st_uid != os.geteuid())


def private_folder(path: Path) -> None:
    """Create a folder, and its parents, that only the owner may enter; an existing folder is not changed."""
    for folder in (*reversed(path.parents), path):
        if not folder.exists():
            folder.mkdir(mode=0o700, exist_ok=True)


def private_file(path: Path) -> None:
    """Create an empty file that only the owner may read; replaces an existing file. Does not follow links."""
    path.unlink(missing_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def narrow_state(state_dir: Path) -> list[Path]:
    """Remove the rights of group and others from Tamiz' files in the state folder; returns the changed paths."""
    changed = []
    for path in (state_dir / name for name in _OURS):
        if is_private(path) or path.is_symlink():
            continue
        with contextlib.suppress(OSError):  # owned by another user, as on a shared volume
            path.chmod(stat.S_IMODE(path.stat().st_mode) & ~_OF_OTHERS)
            changed.append(path)
    return changed
