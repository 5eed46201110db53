"""Files and folders that only their owner may read: the registry, bundles, worker state, the broker's records.

`tamiz` sets its umask to `UMASK`, so that neither it nor its children make anything that others can read. What older
versions or other programs made is narrowed here, where it is ours by name.
"""

import contextlib
import os
import stat
from pathlib import Path

UMASK = 0o077
_OF_OTHERS = stat.S_IRWXG | stat.S_IRWXO
# Within the state folder, made by Tamiz. The folder itself may be anything that a person named: it is never changed.
_OURS = ("mlflow.db", "mlflow.lock", "models", "artifacts", "faust", "demo", "notifier")


def is_private(path: Path) -> bool:
    """Whether only the owner may enter, read or write; a path that is not there is."""
    try:
        return not stat.S_IMODE(path.stat().st_mode) & _OF_OTHERS
    except FileNotFoundError:
        return True


def is_private_secret(path: Path) -> bool:
    """Whether only the owner may read a file, or its group where the platform mounts secrets so.

    Kubernetes mounts a secret read-only, or as root's and readable by the pod's group (`fsGroup`): no `chmod` changes
    that, and the group is this program's own.
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
    """Make a folder that only its owner may enter, parents included; one that is there stays as it is."""
    for folder in (*reversed(path.parents), path):
        if not folder.exists():
            folder.mkdir(mode=0o700, exist_ok=True)


def private_file(path: Path) -> None:
    """Make an empty file that only its owner may read, in the place of what was there. Follows no link."""
    path.unlink(missing_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def narrow_state(state_dir: Path) -> list[Path]:
    """Take the rights of others from what Tamiz keeps in its state folder; what was changed."""
    changed = []
    for path in (state_dir / name for name in _OURS):
        if is_private(path) or path.is_symlink():
            continue
        with contextlib.suppress(OSError):  # another user's, as on a shared volume
            path.chmod(stat.S_IMODE(path.stat().st_mode) & ~_OF_OTHERS)
            changed.append(path)
    return changed
