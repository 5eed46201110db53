"""Compiled code of an image: copied to the state folder, and used by Numba."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from schemas.files.compiled_code import DIGEST, PROCESSOR, use_compiled_code

ROOT = Path(__file__).parent.parent.parent.parent
FUNCTION = """
from scoring.compilation import compiled

@compiled
def double(x):
    return 2 * x
"""
CALL = """
import sys
from pathlib import Path
from schemas.files.compiled_code import use_compiled_code
if sys.argv[1]:
    use_compiled_code(Path(sys.argv[1]), Path(sys.argv[2]))
from double import double
from stream_app.worker.warm_up import compilation_lock
with compilation_lock():
    assert double(21) == 42
print(sum(double.stats.cache_hits.values()), sum(double.stats.cache_misses.values()))
"""


@pytest.fixture
def built(tmp_path: Path) -> Path:
    (folder := tmp_path / "built" / "scoring_1").mkdir(parents=True)
    (folder / "f.nbi").write_text("index")
    (folder.parent / DIGEST).write_text("first")
    return folder.parent


@pytest.fixture(autouse=True)
def without_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NUMBA_CACHE_DIR", *PROCESSOR):
        monkeypatch.setenv(name, "")  # restored after the test
        monkeypatch.delenv(name)


def test_the_code_of_an_image_is_copied_once_and_replaces_that_of_an_earlier_image(built: Path, tmp_path: Path) -> None:
    kept = tmp_path / "state" / "numba"
    use_compiled_code(tmp_path / "state", built)
    assert os.environ["NUMBA_CACHE_DIR"] == str(kept / "first")
    assert os.environ["NUMBA_CPU_NAME"] == "generic"
    (kept / "first" / "scoring_1" / "more.nbc").write_text("compiled later")
    del os.environ["NUMBA_CACHE_DIR"]
    use_compiled_code(tmp_path / "state", built)
    assert {p.name for p in (kept / "first" / "scoring_1").iterdir()} == {"f.nbi", "more.nbc"}
    del os.environ["NUMBA_CACHE_DIR"]
    (built / DIGEST).write_text("second")
    use_compiled_code(tmp_path / "state", built)
    assert [p.name for p in kept.iterdir()] == ["second"]
    assert (kept / "second" / "scoring_1" / "f.nbi").read_text() == "index"


def test_a_place_that_is_set_already_is_kept(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/elsewhere")
    use_compiled_code(tmp_path / "state", built)
    assert os.environ["NUMBA_CACHE_DIR"] == "/elsewhere"
    assert not (tmp_path / "state").exists()


def test_a_state_folder_that_cannot_be_written_changes_nothing(built: Path, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("not a folder")
    use_compiled_code(tmp_path / "state", built)
    assert "NUMBA_CACHE_DIR" not in os.environ


def test_parallel_processes_compile_once_and_a_copy_of_the_result_is_used(tmp_path: Path) -> None:
    (tmp_path / "double.py").write_text(FUNCTION)
    built, path = tmp_path / "built", {"PYTHONPATH": f"{ROOT}:{tmp_path}"}

    def call(state: str, more: dict[str, str]) -> subprocess.Popen[str]:
        words = [sys.executable, "-c", CALL, state, str(built)]
        return subprocess.Popen(words, env=os.environ | path | more, stdout=subprocess.PIPE, text=True)

    both = [call("", PROCESSOR | {"NUMBA_CACHE_DIR": str(built)}) for _ in range(2)]
    assert sorted(process.communicate(timeout=120)[0].split() for process in both) == [["0", "1"], ["1", "0"]]
    (built / DIGEST).write_text("of this version")
    assert call(str(tmp_path / "state"), {}).communicate(timeout=120)[0].split() == ["1", "0"]
