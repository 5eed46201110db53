"""An output path that cannot be written is refused before the work begins."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from schemas.errors import ConfigError
from schemas.files.output_files import prepare_output, prepare_output_folder

# Each command that writes a file, with a file that it would have to read first.
COMMANDS = ("score {file} -o {out}.csv", "drift {file} -o {out}.html", "eda {file} -o {out}.html")
COMMANDS += ("report {file} -o {out}.pdf", "simulate --rows 10 -o {out}.csv", "backtest {file} -o {out}")


def test_missing_folders_are_created(tmp_path: Path) -> None:
    prepare_output(tmp_path / "a" / "b" / "c.csv")
    prepare_output_folder(tmp_path / "d" / "e")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a", "b", "d", "e"]


def test_an_existing_file_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text("before")
    prepare_output(tmp_path / "c.csv")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("c.csv", "before")]


def test_a_device_or_a_pipe_may_receive_the_output(tmp_path: Path) -> None:
    prepare_output(Path("/dev/null"))
    assert Path("/dev/null").is_char_device()
    os.mkfifo(tmp_path / "pipe")
    prepare_output(tmp_path / "pipe")
    assert [(p.name, p.is_fifo()) for p in tmp_path.iterdir()] == [("pipe", True)]


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--output .*: cannot be written: it is a folder; name another path"):
        prepare_output(tmp_path)


@pytest.mark.parametrize("prepare", [prepare_output, prepare_output_folder])
def test_a_file_is_no_folder(prepare, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be written: "):
        prepare(tmp_path / "file" / "c.csv")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_refuses_an_output_that_cannot_be_written(command: str, tmp_path: Path) -> None:
    (tmp_path / "in.csv").touch()
    # Not even root may create a file there.
    words = [word.format(file=tmp_path / "in.csv", out="/proc/none/x") for word in command.split()]
    done = subprocess.run(
        [sys.executable, "-c", "from tamiz.main import run; run()", *words],
        env=os.environ | {"TAMIZ_STATE_DIR": str(tmp_path / "state")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert done.stderr.startswith("tamiz: --output /proc/none/x")


def test_a_full_disk_ends_a_command_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "full.csv").symlink_to("/dev/full")
    done = subprocess.run(
        [sys.executable, "-c", "from tamiz.main import run; run()", *["simulate", "--rows", "5000", "-o", "full.csv"]],
        cwd=tmp_path,
        env=os.environ | {"TAMIZ_STATE_DIR": str(tmp_path / "state")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == "tamiz: No space left on device: free some space or permit writing, then repeat the command\n"
