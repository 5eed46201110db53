"""Files that Tamiz creates are readable by their owner only, for any umask; wider permissions are narrowed."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from schemas.configuration.settings import Settings
from schemas.files.atomic_write import atomic_write
from schemas.files.private_files import narrow_state, private_file, private_folder
from tamiz.services.user_file import add_user, remove_user


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def readable_by_others(folder: Path) -> list[Path]:
    return [path for path in (folder, *folder.rglob("*")) if mode(path) & 0o077]


def test_a_command_writes_what_only_its_owner_may_read_under_any_umask(tmp_path: Path) -> None:
    out = tmp_path / "new.csv"
    command = [sys.executable, "-m", "tamiz", "simulate", "--rows", "5", "--output", str(out)]
    subprocess.run(command, check=True, umask=0, capture_output=True)
    assert mode(out) == 0o600


def test_the_registry_and_its_folders_are_their_owners_even_where_they_were_wider(real_registry: Settings) -> None:
    from training.registry.mlflow_registry import mlflow_client

    state = real_registry.state_dir
    (state / "models").mkdir(exist_ok=True)
    (state / "models").chmod(0o755)
    (state / "mlflow.db").chmod(0o666)
    with mlflow_client(real_registry):
        pass
    assert (mode(state / "mlflow.db"), mode(state / "models")) == (0o600, 0o700)


def test_a_registry_outside_the_state_folder_and_what_is_around_it_keeps_its_rights(tmp_path: Path) -> None:
    from training.registry.mlflow_registry import mlflow_client

    shared = tmp_path / "shared"
    (shared / "models").mkdir(parents=True)
    (shared / "models").chmod(0o755)
    settings = Settings(state_dir=tmp_path / "state", mlflow_tracking_uri=f"sqlite:///{shared / 'mlflow.db'}")
    with mlflow_client(settings):
        pass
    (shared / "mlflow.db").chmod(0o644)
    with mlflow_client(settings):
        pass
    assert (mode(shared / "mlflow.db"), mode(shared / "models")) == (0o644, 0o755)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file to another")
def test_a_users_file_keeps_its_owner_group_and_mode_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "users"
    add_user(path, "ana", ["read"])
    assert mode(path) == 0o600
    os.chown(path, 1234, 4321)
    path.chmod(0o640)
    for change in (lambda: add_user(path, "bo", ["read"]), lambda: remove_user(path, "bo")):
        change()
        found = path.stat()
        assert (found.st_uid, found.st_gid, mode(path)) == (1234, 4321, 0o640)


def test_the_folder_that_a_person_named_is_not_changed(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    for name in ("theirs", "mlflow.db"):
        (tmp_path / name).touch()
        (tmp_path / name).chmod(0o644)  # whatever the umask is
    assert narrow_state(tmp_path) == [tmp_path / "mlflow.db"]
    assert (mode(tmp_path), mode(tmp_path / "theirs")) == (0o755, 0o644)


def test_a_file_that_is_made_follows_no_link_that_another_laid(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("mine")
    (tmp_path / "out.csv.part").symlink_to(tmp_path / "victim")
    with atomic_write(tmp_path / "out.csv") as scratch:
        scratch.write_text("new")
    assert (tmp_path / "victim").read_text() == "mine"
    assert (mode(tmp_path / "out.csv"), (tmp_path / "out.csv").is_symlink()) == (0o600, False)


def test_folders_and_files_are_private_when_they_are_made(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        private_folder(tmp_path / "a" / "b")
        private_file(tmp_path / "a" / "b" / "c")
    finally:
        os.umask(before)
    assert readable_by_others(tmp_path / "a") == []
