"""A missing library ends a command in one line that names the extra; services import none of training's."""

import subprocess
import sys
from pathlib import Path

import pytest

from schemas.errors import ConfigError
from schemas.extras import PACKAGES, Extra, missing_extra, require_extra

ROOT = Path(__file__).parent.parent.parent.parent
# As if these were not installed: None in `sys.modules` is how Python itself marks an import that fails.
WITHOUT = "import sys; sys.modules.update(dict.fromkeys(sys.argv.pop(1).split(','))); from tamiz.main import run; run()"


def tamiz(tmp_path: Path, without: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT, without, *arguments],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "TAMIZ_STATE_DIR": str(tmp_path), "HOME": str(tmp_path), "COLUMNS": "300"},
        timeout=60,
        check=False,
    )


NEEDS = "needs {}, not installed here: pip install 'tamiz[{}]'"


@pytest.mark.parametrize(
    ("extra", "without", "arguments", "needed_by"),
    [
        ("training", "reportlab", ["train", "h.csv"], "tamiz train"),
        ("eda", "sweetviz", ["eda", "h.csv"], "tamiz eda"),
        ("figures", "matplotlib", ["drift", "h.csv", "-o", "d.png"], "tamiz drift --output"),
        ("dev-broker", "jgo", ["broker"], "the embedded broker"),
    ],
)
def test_a_missing_library_ends_a_command_in_one_line_that_names_the_extra(
    tmp_path: Path, extra: str, without: str, arguments: list[str], needed_by: str
) -> None:
    ended = tamiz(tmp_path, without, *arguments)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == f"tamiz: {needed_by} {NEEDS.format(without, extra)}\n"


@pytest.mark.parametrize("extra", PACKAGES)
def test_an_extra_is_missing_when_any_of_its_libraries_is(extra: Extra, monkeypatch: pytest.MonkeyPatch) -> None:
    require_extra(extra, needed_by="it")
    for module, package in PACKAGES[extra].items():
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, module, None)
            with pytest.raises(ConfigError) as raised:
                require_extra(extra, needed_by="it")
        assert str(raised.value) == f"it {NEEDS.format(package, extra)}"


def test_all_missing_extras_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("boto3", "matplotlib"):
        monkeypatch.setitem(sys.modules, module, None)
    line = missing_extra("s3", "eda", "dev-broker", needed_by="it")
    assert line == f"it {NEEDS.format('boto3, matplotlib', 's3,eda')}"
